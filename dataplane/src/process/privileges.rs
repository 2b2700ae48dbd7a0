//! Another user, no groups, no capabilities, now and ever.

use std::{fs, io};

use rustix::{
    process::{DumpableBehavior, Resource, Rlimit},
    thread::{CapabilitySet, CapabilitySets, Gid, Uid},
};

use super::{Options, ProcessError};

/// The calls below act on the calling thread only; with one thread that is the process.
pub(super) fn check_single_thread() -> Result<(), ProcessError> {
    match fs::read_dir("/proc/self/task").map(Iterator::count) {
        Ok(1) => Ok(()),
        Ok(count) => Err(ProcessError::Threads(count)),
        Err(source) => Err(ProcessError::Privileges {
            what: "threads (/proc/self/task is not there)",
            source,
        }),
    }
}

/// Gives everything up. A process that is not root stays who it is and must be asked to.
pub(super) fn give_up(options: &Options) -> Result<(), ProcessError> {
    let failed = |what| {
        move |error: rustix::io::Errno| ProcessError::Privileges {
            what,
            source: error.into(),
        }
    };
    raise_descriptor_limit();
    rustix::process::setrlimit(
        Resource::Core,
        Rlimit {
            current: Some(0),
            maximum: Some(0),
        },
    )
    .map_err(failed("core dumps"))?;
    let (uid, gid) = (Uid::from_raw(options.uid), Gid::from_raw(options.gid));
    if rustix::process::geteuid().is_root() {
        if uid.is_root() {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "asked to stay root");
            return Err(ProcessError::Privileges {
                what: "the superuser",
                source,
            });
        }
        for capability in CapabilitySet::all().iter() {
            // Those that this kernel does not know it does not give either.
            let _ = rustix::thread::remove_capability_from_bounding_set(capability);
        }
        rustix::thread::set_thread_groups(&[]).map_err(failed("supplementary groups"))?;
        rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(failed("the group"))?;
        rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(failed("the user"))?;
    } else if rustix::process::geteuid() != uid {
        let source = io::Error::new(io::ErrorKind::PermissionDenied, "only root can become another user");
        return Err(ProcessError::Privileges {
            what: "the user",
            source,
        });
    }
    let _ = rustix::thread::clear_ambient_capability_set();
    let none = CapabilitySet::empty();
    rustix::thread::set_capabilities(
        None,
        CapabilitySets {
            effective: none,
            permitted: none,
            inheritable: none,
        },
    )
    .map_err(failed("capabilities"))?;
    rustix::thread::set_no_new_privs(true).map_err(failed("new privileges"))?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(failed("being traced"))
}

/// Each uplink and guest port takes descriptors; the soft limit of 1024 is for those who `select`.
fn raise_descriptor_limit() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let _ = rustix::process::setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            ..limit
        },
    );
}
