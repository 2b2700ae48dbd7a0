//! `weft key`: keys and statements in files. No node is asked.

use std::{
    fs,
    io::{self, IsTerminal as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ipnet::IpNet;
use lisp::{
    EidPrefix, InstanceId,
    mesh::{Binding, Issuer, Membership, PublicKey, Signer as _, SoftwareKey, crypto_eid},
};
use serde::Serialize;
use zeroize::Zeroizing;

use super::print::structured;
use crate::{
    cli::{Format, KeyArgs, KeyBindArgs, KeyCommand, KeyExportArgs, KeyMemberArgs, KeyNewArgs, KeyShowArgs},
    error::{IntentError, Report},
    keyring::{self, Statements},
};

/// Seconds of a day.
const DAY: u64 = 86_400;

/// `weft key`.
#[must_use]
pub fn key(arguments: &KeyArgs) -> ExitCode {
    let (format, result) = match &arguments.command {
        KeyCommand::New(arguments) => (arguments.output.format, new(arguments)),
        KeyCommand::Show(arguments) => (arguments.output.format, show(arguments)),
        KeyCommand::Bind(arguments) => (arguments.output.format, bind(arguments)),
        KeyCommand::Member(arguments) => (arguments.output.format, member(arguments)),
        KeyCommand::Export(arguments) => (arguments.output.format, export(arguments)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            let (message, help) = message.split_once("; ").unwrap_or((&message, "see `weft key --help`"));
            super::connection::ClientError::Refused(Report::from(IntentError::whole("weft key", message, help)))
                .print(format)
        }
    }
}

/// What can be told of a key.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct PublicHalf {
    public_key: PublicKey,
    key_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    eid: Option<String>,
}

impl PublicHalf {
    fn of(key: &PublicKey, instance: Option<InstanceId>) -> Self {
        Self {
            public_key: *key,
            key_id: key.id().unwrap_or_default().to_string(),
            eid: instance
                .and_then(|instance| crypto_eid(instance, key))
                .map(|eid| eid.address.to_string()),
        }
    }

    fn print(&self, format: Format) {
        if structured(format, self) {
            return;
        }
        say!("public key  {}", self.public_key);
        say!("key id      {}", self.key_id);
        if let Some(eid) = &self.eid {
            say!("EID         {eid}");
        }
    }
}

/// What a statement says.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    kind: &'static str,
    instance_id: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
    node: PublicKey,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
    /// Seconds since the Unix epoch.
    not_after: u64,
    /// `authority`, or the EID's key.
    signed_by: String,
    expired: bool,
    /// Its line.
    statement: String,
}

impl Said {
    fn binding(binding: &Binding, now: u64) -> Self {
        Self {
            kind: "binding",
            instance_id: binding.prefix.instance_id().get(),
            prefix: Some(binding.prefix.net().to_string()),
            node: binding.node,
            epoch: Some(binding.statement.epoch),
            not_after: binding.statement.not_after,
            signed_by: match binding.statement.issuer {
                Issuer::EidKey(key) => key.to_string(),
                Issuer::Authority => "authority".to_owned(),
            },
            expired: now >= binding.statement.not_after,
            statement: keyring::binding_line(binding).trim_end().to_owned(),
        }
    }

    fn membership(membership: &Membership, now: u64) -> Self {
        Self {
            kind: "membership",
            instance_id: membership.instance_id.get(),
            prefix: None,
            node: membership.node,
            epoch: None,
            not_after: membership.permit.not_after,
            signed_by: "authority".to_owned(),
            expired: now >= membership.permit.not_after,
            statement: keyring::membership_line(membership).trim_end().to_owned(),
        }
    }

    /// In words, on one line.
    fn words(&self) -> String {
        let says = match &self.prefix {
            Some(prefix) => format!("speaks for {prefix} in Instance-ID {}", self.instance_id),
            None => format!("may join Instance-ID {}", self.instance_id),
        };
        let signer = if self.signed_by == "authority" {
            "the network's authority"
        } else {
            "the EID's own key"
        };
        let until = date(self.not_after);
        let expired = if self.expired { " (expired)" } else { "" };
        let epoch = self.epoch.map(|epoch| format!(", epoch {epoch}")).unwrap_or_default();
        format!(
            "node {} {says} until {until}{expired}{epoch}, signed by {signer}",
            self.node
        )
    }
}

fn new(arguments: &KeyNewArgs) -> Result<(), String> {
    let key = keyring::generate()?;
    keyring::write_new(&arguments.file, &key)?;
    PublicHalf::of(&key.public_key(), arguments.instance).print(arguments.output.format);
    Ok(())
}

fn show(arguments: &KeyShowArgs) -> Result<(), String> {
    let shown = arguments.file.display();
    let bytes =
        fs::read(&arguments.file).map_err(|error| format!("{shown} cannot be read: {error}; check the path"))?;
    let bytes = Zeroizing::new(bytes);
    let text = std::str::from_utf8(&bytes).map_err(|_| format!("{shown} is no text; name a key or statement file"))?;
    let format = arguments.output.format;
    if SoftwareKey::from_text(text).is_ok() {
        // Anew, for it must be a file that others cannot read.
        let key = keyring::read_key(&arguments.file)?;
        PublicHalf::of(&key.public_key(), arguments.instance).print(format);
        return Ok(());
    }
    if let Ok(public) = text.parse::<PublicKey>() {
        PublicHalf::of(&public, arguments.instance).print(format);
        return Ok(());
    }
    let said = said(text, now().as_secs()).map_err(|error| format!("{shown}: {error}"))?;
    if !structured(format, &said) {
        for said in &said {
            say!("{}", said.words());
        }
    }
    Ok(())
}

fn said(text: &str, now: u64) -> Result<Vec<Said>, String> {
    let statements = Statements::read(text)?;
    let bindings = statements.bindings.iter().map(|binding| Said::binding(binding, now));
    let memberships = statements
        .memberships
        .iter()
        .map(|membership| Said::membership(membership, now));
    let said: Vec<Said> = bindings.chain(memberships).collect();
    if said.is_empty() {
        return Err("it says nothing; name a key or statement file".to_owned());
    }
    Ok(said)
}

fn bind(arguments: &KeyBindArgs) -> Result<(), String> {
    let key = keyring::read_key(&arguments.key)?;
    let now = now();
    let not_after = end(now, arguments.days);
    let epoch = arguments
        .epoch
        .unwrap_or_else(|| u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
    let binding = match &arguments.prefix {
        Some(text) => {
            let prefix = EidPrefix::new(arguments.instance, net(text)?);
            Binding::by_authority(prefix, &key, arguments.node, epoch, not_after)
        }
        None => Binding::by_eid_key(arguments.instance, &key, arguments.node, epoch, not_after)
            .ok_or("the key hashes to no EID; make another one with `weft key new FILE`")?,
    };
    let said = Said::binding(&binding, now.as_secs());
    give(&said, arguments.out.as_deref(), arguments.output.format)
}

fn member(arguments: &KeyMemberArgs) -> Result<(), String> {
    let key = keyring::read_key(&arguments.key)?;
    let now = now();
    let membership = Membership::sign(arguments.instance, arguments.node, end(now, arguments.days), &key);
    let said = Said::membership(&membership, now.as_secs());
    give(&said, arguments.out.as_deref(), arguments.output.format)
}

fn export(arguments: &KeyExportArgs) -> Result<(), String> {
    let key = keyring::read_key(&arguments.file)?;
    let format = arguments.output.format;
    if !arguments.private {
        if !structured(format, &PublicHalf::of(&key.public_key(), None)) {
            say!("{}", key.public_key());
        }
        return Ok(());
    }
    if io::stdout().is_terminal() && !arguments.force {
        return Err(
            "a private key does not belong onto a terminal; send the output into a file or a pipe, or add --force"
                .into(),
        );
    }
    let text = key.to_text();
    if !structured(format, &serde_json::json!({"privateKey": text.as_str()})) {
        say!("{}", text.as_str());
    }
    Ok(())
}

/// A statement goes into its file, and without one to standard output.
fn give(said: &Said, out: Option<&Path>, format: Format) -> Result<(), String> {
    let text = format!("# {}\n{}\n", said.words(), said.statement);
    if let Some(path) = out {
        write_statement(path, &text)?;
    }
    if !structured(format, said) {
        match out {
            Some(path) => say!("{}\nwritten to {}", said.words(), path.display()),
            None => say_exactly!("{text}"),
        }
    }
    Ok(())
}

/// Mode 0600, for a `Secret` takes no file that others may read.
fn write_statement(path: &Path, text: &str) -> Result<(), String> {
    let shown = path.display();
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    })
    .map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            format!("{shown} is there already and is not overwritten; choose another name, or move it away")
        }
        _ => format!("{shown} cannot be written: {error}; check the folder"),
    })
}

/// A prefix, or an address as the prefix of itself.
fn net(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<std::net::IpAddr>() {
        return Ok(address.into());
    }
    let net: IpNet = text
        .parse()
        .map_err(|_| format!("`{text}` is no prefix; write one such as 10.7.2.0/24, or an address"))?;
    if net.trunc() != net {
        return Err(format!(
            "{net} has bits behind its length; write {} for the block",
            net.trunc()
        ));
    }
    Ok(net)
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn end(now: Duration, days: u32) -> u64 {
    now.as_secs().saturating_add(DAY.saturating_mul(days.into()))
}

/// `2026-11-24 15:36 UTC`, by the civil calendar, whose years are counted from March so that the leap day is the last.
fn date(seconds: u64) -> String {
    let days = seconds / DAY + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let of_day = seconds % DAY;
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02} UTC",
        of_day / 3600,
        of_day % 3600 / 60
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn run(words: &[&str]) -> Result<(), String> {
        let line = ["weft", "key"].iter().chain(words);
        let Command::Key(arguments) = Cli::try_parse_from(line).map_err(|error| error.to_string())?.command else {
            return Err("another verb".into());
        };
        match &arguments.command {
            KeyCommand::New(arguments) => new(arguments),
            KeyCommand::Show(arguments) => show(arguments),
            KeyCommand::Bind(arguments) => bind(arguments),
            KeyCommand::Member(arguments) => member(arguments),
            KeyCommand::Export(arguments) => export(arguments),
        }
    }

    #[test]
    fn what_the_verbs_sign_is_what_the_keyring_believes() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let (root, eid) = (path("root.key"), path("eid.key"));
        run(&["new", &root]).expect("made");
        run(&["new", &eid, "--instance", "7"]).expect("made");
        assert!(run(&["new", &root]).is_err_and(|error| error.contains("not overwritten")));
        let authority = keyring::read_key(Path::new(&root)).expect("a key").public_key();
        let node = SoftwareKey::from_bytes(&[1; 32]).expect("a key").public_key();
        let named = node.to_string();
        let common = ["--node", named.as_str(), "--instance", "7"];
        let out = |name: &str, words: &[&str]| {
            let file = path(name);
            let line: Vec<&str> = words
                .iter()
                .copied()
                .chain(common)
                .chain(["--out", file.as_str()])
                .collect();
            run(&line).expect("signed");
            let mode = fs::metadata(&file).expect("there").permissions().mode();
            assert_eq!(mode & 0o7777, 0o600);
            run(&["show", &file]).expect("shown");
            Statements::read(&fs::read_to_string(&file).expect("text")).expect("statements")
        };
        let now = now().as_secs();
        let slice = out(
            "slice",
            &["bind", "--key", &root, "--prefix", "10.7.2.0/24", "--epoch", "5"],
        );
        assert_eq!(slice.bindings[0].verify(Some(&authority), now), Ok(()));
        assert_eq!((slice.bindings[0].node, slice.bindings[0].statement.epoch), (node, 5));
        let hash = out("hash", &["bind", "--key", &eid, "--days", "2"]);
        assert_eq!(hash.bindings[0].verify(None, now + DAY), Ok(()));
        assert!(hash.bindings[0].verify(None, now + 2 * DAY + 60).is_err());
        let membership = out("membership", &["member", "--key", &root]);
        assert!(membership.memberships[0].verify(&authority, now + 364 * DAY));

        let bad = ["bind", "--key", &root, "--prefix", "10.7.2.1/24"];
        let bad: Vec<&str> = bad.iter().copied().chain(common).collect();
        assert!(run(&bad).is_err_and(|error| error.contains("10.7.2.0/24")));
        run(&["export", &root]).expect("exported");
    }

    #[test]
    fn a_key_that_others_may_read_is_neither_shown_nor_used() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.key");
        let text = path.display().to_string();
        run(&["new", &text]).expect("made");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("mode set");
        for words in [["show", &text], ["export", &text]] {
            assert!(run(&words).is_err_and(|error| error.contains("chmod 600")), "{words:?}");
        }
    }

    #[test]
    fn statements_are_told_in_words() {
        let key = SoftwareKey::from_bytes(&[1; 32]).expect("a key");
        let instance = InstanceId::new(7).expect("it fits");
        let membership = Membership::sign(instance, key.public_key(), 1_795_620_960, &key);
        let words = Said::membership(&membership, 1_795_620_960).words();
        assert!(
            words.contains("may join Instance-ID 7 until 2026-11-25 15:36 UTC (expired)"),
            "{words}"
        );
        assert!(said("# nothing\n", 0).is_err());
    }

    #[test]
    fn dates_are_of_the_civil_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (1_709_251_199, "2024-02-29 23:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00 UTC"),
        ] {
            assert_eq!(date(seconds), text);
        }
    }
}
