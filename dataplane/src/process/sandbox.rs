//! What the process may still ask of the kernel: nothing of files (landlock, and seccomp), of sockets only what the
//! descriptors that it is handed need (seccomp).

use std::{collections::BTreeMap, fs::File, net::UdpSocket};

use landlock::{ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetStatus, Scope};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use super::ProcessError;

/// No file, no TCP connection, no abstract unix socket, no signal to others. Whether all of it, or (on older
/// kernels) part of it is in force; kernels without landlock leave it to seccomp.
pub(super) fn landlock() -> Result<bool, ProcessError> {
    let failed = |error: landlock::RulesetError| ProcessError::Sandbox(format!("landlock: {error}"));
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V5))
        .map_err(failed)?
        .handle_access(AccessNet::from_all(ABI::V5))
        .map_err(failed)?
        .scope(Scope::from_all(ABI::V6))
        .map_err(failed)?
        .create()
        .map_err(failed)?
        .restrict_self()
        .map_err(failed)?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

/// Calls that the burst loop, the allocator and the end of a process need. What is not here fails with EPERM:
/// a panic that looks for debug information (and may not open files) still gets its message out.
const ALLOWED: &[libc::c_long] = &[
    // Packets and messages, through descriptors that are there.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_accept4,
    libc::SYS_getsockopt,
    libc::SYS_getsockname,
    libc::SYS_close,
    libc::SYS_fcntl,
    // Waiting.
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    libc::SYS_futex,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    // Memory. (mmap and mprotect: see below.)
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    // Time, randomness, who am I.
    libc::SYS_clock_gettime,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    // Signals, and the end.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Puts the filter of [`ALLOWED`] in force.
pub(super) fn seccomp() -> Result<(), ProcessError> {
    let failed = |error: &dyn std::fmt::Display| ProcessError::Sandbox(format!("seccomp: {error}"));
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = ALLOWED.iter().map(|&call| (number(call), Vec::new())).collect();
    // Memory may be had, but not such as can be executed.
    let not_executable = SeccompCondition::new(
        2,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64),
        0,
    )
    .and_then(|condition| SeccompRule::new(vec![condition]))
    .map_err(|error| failed(&error))?;
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(number(call), vec![not_executable.clone()]);
    }
    let architecture = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| failed(&error))?;
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    let filter =
        SeccompFilter::new(rules, refuse, SeccompAction::Allow, architecture).map_err(|error| failed(&error))?;
    let program = BpfProgram::try_from(filter).map_err(|error| failed(&error))?;
    seccompiler::apply_filter(&program).map_err(|error| failed(&error))
}

#[allow(clippy::useless_conversion, reason = "`c_long` is narrower on other targets")]
fn number(call: libc::c_long) -> i64 {
    i64::from(call)
}

/// Tries what must not work.
#[allow(clippy::disallowed_methods, reason = "trying is the point")]
pub(super) fn look_for_holes() -> Result<(), ProcessError> {
    if File::open("/").is_ok() {
        return Err(ProcessError::Hole("opening a file"));
    }
    if UdpSocket::bind("127.0.0.1:0").is_ok() {
        return Err(ProcessError::Hole("opening a socket"));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "what must not work has to be tried")]
mod tests {
    use std::{io, os::unix::net::UnixStream, process::Command, thread};

    use super::*;

    /// Both act on the calling thread, and on what it starts: the other tests stay free.
    fn inside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        let sandboxed = thread::spawn(move || {
            landlock()?;
            seccomp()?;
            Ok::<T, ProcessError>(work())
        });
        match sandboxed.join() {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => panic!("{error}"),
            Err(_) => panic!("the sandboxed thread panicked"),
        }
    }

    #[test]
    fn nothing_is_opened_made_or_started() {
        let refused = inside(|| {
            let denied = |result: io::Result<()>| result.err().map(|error| error.kind());
            let memory = rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::empty()).map(drop);
            [
                denied(File::open("/proc/self/status").map(drop)),
                denied(File::create("/tmp/x").map(drop)),
                denied(UdpSocket::bind("127.0.0.1:0").map(drop)),
                denied(UnixStream::pair().map(drop)),
                denied(Command::new("/bin/true").status().map(drop)),
                denied(memory.map_err(io::Error::from)),
            ]
        });
        assert_eq!(refused, [Some(io::ErrorKind::PermissionDenied); 6]);
    }

    #[test]
    fn what_the_loop_needs_still_works() {
        let Ok((left, right)) = UnixStream::pair() else {
            panic!("no socket pair")
        };
        let Ok(epoll) = rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC) else {
            panic!()
        };
        let (hole, worked) = inside(move || {
            let data = rustix::event::epoll::EventData::new_u64(1);
            let worked = rustix::io::write(&left, &[1; 1000]).is_ok()
                && rustix::event::epoll::add(&epoll, &right, data, rustix::event::epoll::EventFlags::IN).is_ok()
                && right.try_clone().is_ok();
            // Memory beyond what the allocator has at hand.
            let memory = vec![1u8; 64 << 20];
            (look_for_holes().is_ok(), worked && memory.last() == Some(&1))
        });
        assert!(hole && worked);
    }

    #[test]
    fn a_hole_is_found() {
        assert!(matches!(look_for_holes(), Err(ProcessError::Hole(_))));
    }
}
