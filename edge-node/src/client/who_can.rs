//! `weft who-can`.

use std::process::ExitCode;

use super::{
    connection::{Client, run},
    print::structured,
};
use crate::{
    api::{Joins, WhoCanAnswer, WhoCanNetwork, WhoCanRequest, WhoCanSide},
    cli::WhoCanArgs,
};

/// `weft who-can`. Ends with 0 when everything that is asked about is allowed.
pub fn who_can(arguments: &WhoCanArgs) -> ExitCode {
    let format = arguments.output.format;
    run(
        async {
            let request = WhoCanRequest {
                from: arguments.from.clone(),
                to: arguments.to.clone(),
                service: arguments.service.clone(),
                network: arguments.network.clone(),
            };
            let answer: WhoCanAnswer = Client::new(&arguments.node).post("/v1/who-can", &request).await?;
            if !structured(format, &answer) {
                for network in &answer.networks {
                    show(network);
                }
            }
            Ok(if answer.allow {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        },
        format,
    )
}

fn show(network: &WhoCanNetwork) {
    let word = match (network.allow, network.answers.iter().any(|answer| answer.allow)) {
        (true, _) => "allowed",
        (false, true) => "allowed in part",
        (false, false) => "denied",
    };
    let sealed = if network.sealed { "" } else { ", in clear text" };
    say!("{word} in network {}{sealed}", network.network);
    for answer in &network.answers {
        let verdict = if answer.allow { "allow" } else { "deny" };
        let rule = match &answer.rule {
            Some(rule) => format!("by {rule}"),
            None => "no rule fits".to_owned(),
        };
        say!(
            "  {verdict}  {rule}, such as {} from {} to {}",
            answer.packet,
            answer.from,
            answer.to
        );
    }
    for side in [&network.from, &network.to] {
        if let Some(joins) = side.joins {
            say!("  {}: {}", side.name, words(side, joins));
        }
    }
}

fn words(side: &WhoCanSide, joins: Joins) -> String {
    let joins = match joins {
        Joins::Listed => "may join: it is listed in the network's members",
        Joins::NeedsMembership => "may join with a membership that the authority signed, or from a node that is listed",
        Joins::NeedsListedNode => "may join from a node that is listed in the network's members",
        Joins::NotListed => "may NOT join: it is not listed, and no authority could sign for it",
    };
    if side.addresses.is_empty() {
        format!("{joins}; its addresses are known once it has been met")
    } else {
        joins.to_owned()
    }
}
