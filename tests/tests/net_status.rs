//! `weft status` tells the truth within three seconds. Needs root.

use std::time::{Duration, Instant};

use serde_json::Value;
use weft_tests::net::{Fabric, LabError, Node, Result, SiteKind, scenario, until};

const TRUTH: Duration = Duration::from_secs(3);

/// What status says of the remote locator `rloc`: whether it is up.
fn locator_up(node: &Node, rloc: &str) -> Result<Option<bool>> {
    let status = node.json(&["status"])?;
    Ok(find(&status, rloc))
}

fn find(value: &Value, rloc: &str) -> Option<bool> {
    match value {
        Value::Object(map) => {
            if map.get("rloc").and_then(Value::as_str) == Some(rloc)
                && let Some(up) = map.get("up").and_then(Value::as_bool)
            {
                return Some(up);
            }
            map.values().find_map(|inner| find(inner, rloc))
        }
        Value::Array(items) => items.iter().find_map(|item| find(item, rloc)),
        _ => None,
    }
}

#[test]
fn status_tells_the_truth_within_three_seconds_of_a_cut() {
    scenario(|lab| {
        let fabric = Fabric::new(lab, &[SiteKind::Dual, SiteKind::V4])?;
        fabric.until_connected(1, 2)?;
        let rloc = fabric.sites[1].ipv4.unwrap().to_string();
        let node = &fabric.nodes[0];
        let becomes = |up: bool, within: Duration| {
            until(
                &format!("status says that {rloc} is {}", if up { "up" } else { "down" }),
                within,
                || Ok((locator_up(node, &rloc)? == Some(up)).then_some(())),
            )
            .map_err(|error| LabError::Unexpected(format!("{error}\n{}", node.weft(&["status"]).unwrap_or_default())))
        };
        becomes(true, Duration::from_secs(5))?;
        fabric.underlay.cable_up(&fabric.sites[1], false)?;
        let cut = Instant::now();
        becomes(false, TRUTH)?;
        println!("down {:?} after the cut", cut.elapsed());
        fabric.underlay.cable_up(&fabric.sites[1], true)?;
        let mended = Instant::now();
        becomes(true, Duration::from_secs(10))?;
        println!("up {:?} after the mend", mended.elapsed());
        fabric.until_connected(1, 2)
    });
}
