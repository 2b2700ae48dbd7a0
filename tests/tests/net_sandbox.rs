//! The dataplane process owns nothing but what was handed to it: looked up in /proc, not in our own words. Needs root.

use std::{fs, path::Path};

use weft_tests::net::{Fabric, SiteKind, scenario};

#[test]
fn dataplane_runs_without_privileges() {
    scenario(|lab| {
        let mut fabric = Fabric::new(lab, &[SiteKind::Dual, SiteKind::Dual])?;
        fabric.until_connected(1, 2)?;
        let pid = fabric.node(1).dataplane_pid()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
        let field = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .unwrap_or_else(|| panic!("no {name} in {status}"))
                .trim()
                .to_owned()
        };
        for ids in ["Uid", "Gid"] {
            assert!(
                field(ids).split_whitespace().all(|id| id != "0"),
                "{ids}: {}",
                field(ids)
            );
        }
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(field(set), "0000000000000000", "{set}");
        }
        assert_eq!(field("NoNewPrivs"), "1");
        assert_eq!(field("Seccomp"), "2", "a filter is in force");
        assert_eq!(field("Groups"), "", "no supplementary groups");
        // Every thread of it, not only the first.
        for task in fs::read_dir(format!("/proc/{pid}/task")).expect("its threads") {
            let path = task.expect("a thread").path().join("status");
            let status = fs::read_to_string(&path).expect("a thread's status");
            assert!(status.contains("Seccomp:\t2"), "{}", path.display());
        }
        // No file of the node is open in it; sockets, TAPs and standard streams are.
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors") {
            let Ok(target) = fs::read_link(entry.expect("a descriptor").path()) else {
                continue;
            };
            let allowed = ["socket:", "/dev/net/tun", "/dev/null", "anon_inode:", "pipe:"];
            let text = target.to_string_lossy().into_owned();
            assert!(
                allowed.iter().any(|prefix| text.starts_with(prefix))
                    || Path::new(&text).extension() == Some("log".as_ref()),
                "it holds {text}"
            );
        }
        // And no secret is in its environment.
        let environment = fs::read(format!("/proc/{pid}/environ")).expect("its environment");
        let secret = weft_tests::net::files::key("site-1");
        assert!(
            !environment
                .windows(secret.len())
                .any(|window| window == secret.as_bytes())
        );
        Ok(())
    });
}
