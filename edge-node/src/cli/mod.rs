//! The command line: every verb, its arguments and its help text. `main.rs` hands each to the function that does it.

mod generate;
mod key;
mod output;

use std::{net::IpAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueHint};
pub use clap_complete::Shell;

pub use generate::{completion, man};
pub use key::{KeyArgs, KeyBindArgs, KeyCommand, KeyExportArgs, KeyMemberArgs, KeyNewArgs, KeyShowArgs, WhoCanArgs};
pub use output::{DecodeFormat, Format, LogFormat};

use crate::{demo, kind::KindName};

/// Where a node keeps its sockets when nothing else is said.
pub const RUNTIME_DIR: &str = "/run/weft";
/// Where a node keeps what must survive a restart when nothing else is said.
pub const STATE_DIR: &str = "/var/lib/weft";

/// An edge node for LISP meshes: guests, networks, policies, and the Map-Server they meet at.
#[derive(Debug, Parser)]
#[command(
    name = "weft",
    version,
    propagate_version = true,
    after_help = "Start with `weft demo`. A node is described by YAML files (`weft schema` says what may stand in \
                  them), started by `weft up -f DIR` and changed by `weft apply -f FILE`."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run this node until it is told to end
    Up(UpArgs),
    /// Show what `apply` would change, and change nothing
    Plan(PlanArgs),
    /// Merge objects into the node's intent and carry the difference out
    Apply(ApplyArgs),
    /// List objects, or show one
    Get(GetArgs),
    /// Tell everything about one object: what was asked for, what is so, and what is wrong
    Describe(DescribeArgs),
    /// Remove objects from the node's intent
    Delete(DeleteArgs),
    /// Tell how the node is: uplinks, Map-Servers, networks, guests, map-cache, counters
    Status(StatusArgs),
    /// Ping an EID or a name through the mesh, from this node's own address
    Ping(PingArgs),
    /// Ask the mapping system who holds an EID (RFC 6835)
    Lig(LigArgs),
    /// Tell what would happen to a packet of a guest, stage by stage; nothing is sent
    Trace(TraceArgs),
    /// Tell whether the policies let one send to another, by which rule, and whether both may join a sealed mesh
    WhoCan(WhoCanArgs),
    /// Make and show keys, and sign what nodes show in sealed meshes; no running node is needed
    Key(KeyArgs),
    /// Write passing packets to a pcapng file, each with its verdict
    Capture(CaptureArgs),
    /// Show every LISP message and data packet of a capture file, and what is wrong with it
    Decode(DecodeArgs),
    /// Run a Map-Server alone, without a node around it
    #[command(name = "mapserver")]
    MapServer(MapServerArgs),
    /// The packet path's process; `weft up` starts it
    #[command(hide = true)]
    Dataplane(DataplaneArgs),
    /// Show the product on this machine, in network namespaces that vanish with it (needs root)
    Demo(demo::Arguments),
    /// Print the JSON Schema of one kind of object, or of all
    Schema(SchemaArgs),
    /// Print a shell's completion script
    Completion(CompletionArgs),
    /// Write the manual pages
    Man(ManArgs),
}

/// Which node a client verb talks to.
#[derive(Args, Clone, Debug)]
pub struct NodeSelection {
    /// The node's runtime folder; its API listens on `api.sock` inside
    #[arg(long, value_name = "DIR", env = "WEFT_RUNTIME_DIR", default_value = RUNTIME_DIR, value_hint = ValueHint::DirPath)]
    pub runtime_dir: PathBuf,
}

/// Folders of a process that runs for long.
#[derive(Args, Clone, Debug)]
pub struct Directories {
    /// Where the intent, nonces and stores are kept; survives restarts
    #[arg(long, value_name = "DIR", default_value = STATE_DIR, value_hint = ValueHint::DirPath)]
    pub state_dir: PathBuf,
    /// Where sockets are made
    #[arg(long, value_name = "DIR", env = "WEFT_RUNTIME_DIR", default_value = RUNTIME_DIR, value_hint = ValueHint::DirPath)]
    pub runtime_dir: PathBuf,
}

/// YAML files.
#[derive(Args, Clone, Debug)]
pub struct Files {
    /// YAML file, folder of `*.yaml` files, or `-` for standard input; may be given several times
    #[arg(short = 'f', long = "file", value_name = "FILE|DIR", value_hint = ValueHint::AnyPath)]
    pub files: Vec<PathBuf>,
}

/// YAML files, at least one.
#[derive(Args, Clone, Debug)]
pub struct RequiredFiles {
    /// YAML file, folder of `*.yaml` files, or `-` for standard input; may be given several times
    #[arg(short = 'f', long = "file", value_name = "FILE|DIR", required = true, value_hint = ValueHint::AnyPath)]
    pub files: Vec<PathBuf>,
}

/// Arguments of `weft up`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Without -f the node comes up with the intent it last applied.")]
pub struct UpArgs {
    /// The intent to start with.
    #[command(flatten)]
    pub files: Files,
    /// Its folders.
    #[command(flatten)]
    pub directories: Directories,
    /// Its log.
    #[command(flatten)]
    pub log: LogArgs,
}

/// How a process that runs for long logs, to standard error.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct LogArgs {
    /// Lines for people or one JSON object a line; WEFT_LOG sets the level, such as `debug` or `edge_node=debug`
    #[arg(long, value_name = "FORMAT", env = "WEFT_LOG_FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
}

/// Arguments of `weft plan`.
#[derive(Args, Clone, Debug)]
pub struct PlanArgs {
    /// The objects.
    #[command(flatten)]
    pub files: RequiredFiles,
    /// Compare with an empty node instead of the running one
    #[arg(long)]
    pub offline: bool,
    /// The node.
    #[command(flatten)]
    pub node: NodeSelection,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `weft apply`.
#[derive(Args, Clone, Debug)]
pub struct ApplyArgs {
    /// The objects.
    #[command(flatten)]
    pub files: RequiredFiles,
    /// The node.
    #[command(flatten)]
    pub node: NodeSelection,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `weft get`.
#[derive(Args, Clone, Debug)]
pub struct GetArgs {
    /// Kind of object, such as `guest` or `networks`; `all` for every kind
    #[arg(value_name = "KIND")]
    pub kind: KindSelection,
    /// Its name; all of the kind when not given
    pub name: Option<String>,
    /// The node.
    #[command(flatten)]
    pub node: NodeSelection,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// One kind or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KindSelection {
    /// Every kind.
    All,
    /// This one.
    One(KindName),
}

impl std::str::FromStr for KindSelection {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            other => other.parse().map(Self::One),
        }
    }
}

/// Arguments of `weft describe`.
#[derive(Args, Clone, Debug)]
pub struct DescribeArgs {
    /// Kind of object, such as `guest`
    #[arg(value_name = "KIND")]
    pub kind: KindName,
    /// Its name
    pub name: String,
    /// The node.
    #[command(flatten)]
    pub node: NodeSelection,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `weft delete`.
#[derive(Args, Clone, Debug)]
pub struct DeleteArgs {
    /// Kind of object, such as `guest`
    #[arg(value_name = "KIND", required_unless_present = "files", requires = "names")]
    pub kind: Option<KindName>,
    /// Their names
    #[arg(value_name = "NAME", conflicts_with = "files")]
    pub names: Vec<String>,
    /// Delete the objects that stand in these files instead
    #[arg(short = 'f', long = "file", value_name = "FILE|DIR", conflicts_with = "kind", value_hint = ValueHint::AnyPath)]
    pub files: Vec<PathBuf>,
    /// The node.
    #[command(flatten)]
    pub node: NodeSelection,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `weft status`.
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    /// The node.
    #[command(flatten)]
    pub node: NodeSelection,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `weft ping`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Ends with 0 when at least one reply came, with 1 otherwise.")]
pub struct PingArgs {
    /// EID (`fd07::b`) or name (`guest-b`, `guest-b.plant.weft`)
    pub destination: String,
    /// Through which network; needed when the node has several and the destination leaves it open
    #[arg(long, value_name = "NAME")]
    pub network: Option<String>,
    /// Number of echo requests
    #[arg(short, long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    pub count: u32,
    /// Time between requests, such as `1s` or `200ms`
    #[arg(short, long, default_value = "1s", value_parser = duration)]
    pub interval: Duration,
    /// How long to wait for a reply
    #[arg(short = 'W', long, default_value = "2s", value_parser = duration)]
    pub timeout: Duration,
    /// Bytes of payload
    #[arg(short, long, default_value_t = 56, value_parser = clap::value_parser!(u16).range(..=65_000))]
    pub size: u16,
    /// The node.
    #[command(flatten)]
    pub node: NodeSelection,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `weft lig`.
#[derive(Args, Clone, Debug)]
pub struct LigArgs {
    /// EID, with its Instance-ID in front where the network leaves it open: `fd07::b` or `[7]fd07::b`
    #[arg(value_name = "EID")]
    pub eid: String,
    /// In which network
    #[arg(long, value_name = "NAME")]
    pub network: Option<String>,
    /// Ask this Map-Resolver instead of the node's Map-Servers
    #[arg(long, value_name = "ADDRESS")]
    pub map_resolver: Option<IpAddr>,
    /// How long to wait for the Map-Reply
    #[arg(short = 'W', long, default_value = "5s", value_parser = duration)]
    pub timeout: Duration,
    /// The node.
    #[command(flatten)]
    pub node: NodeSelection,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `weft trace`.
#[derive(Args, Clone, Debug)]
pub struct TraceArgs {
    /// The guest that would send the packet
    pub guest: String,
    /// Destination: an EID or a name
    pub destination: String,
    /// What it would send: `icmp`, `tcp/PORT`, `udp/PORT` or `protocol/NUMBER`
    #[arg(long, default_value = "icmp")]
    pub service: String,
    /// Which of its NICs; the first one when not given
    #[arg(long)]
    pub nic: Option<String>,
    /// Source address; one of the NIC's of the destination's family when not given
    #[arg(long, value_name = "ADDRESS")]
    pub source: Option<IpAddr>,
    /// Bytes of the IP packet
    #[arg(long, value_name = "BYTES")]
    pub size: Option<u16>,
    /// Trace the answer instead: the packet comes from this RLOC, in the network of the guest, towards the guest
    #[arg(long, value_name = "RLOC")]
    pub from: Option<IpAddr>,
    /// The node.
    #[command(flatten)]
    pub node: NodeSelection,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `weft capture`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Ends at --count, --duration or Ctrl-C. Wireshark shows each packet's verdict as its comment.")]
pub struct CaptureArgs {
    /// File to write; `-` for standard output. Without it one line a packet is printed
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub write: Option<PathBuf>,
    /// Only this guest
    #[arg(long)]
    pub guest: Option<String>,
    /// Which of its NICs; the first one when not given
    #[arg(long, requires = "guest")]
    pub nic: Option<String>,
    /// Only packets from or to this inner address; may be given several times
    #[arg(long, value_name = "ADDRESS")]
    pub address: Vec<IpAddr>,
    /// End after this many packets
    #[arg(short, long)]
    pub count: Option<u64>,
    /// End after this time, such as `10s`
    #[arg(long, value_parser = duration)]
    pub duration: Option<Duration>,
    /// Bytes kept of each packet
    #[arg(short = 's', long, value_name = "BYTES", default_value_t = 65_535)]
    pub snap_length: u32,
    /// The node.
    #[command(flatten)]
    pub node: NodeSelection,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `weft decode`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Reads pcap and pcapng with Ethernet (and VLAN tags), Linux cooked (v1, v2), raw IP and loopback \
                  frames. With `-o json`, one object a line.\n\nExamples:\n  weft decode mesh.pcap\n  \
                  weft decode mesh.pcapng --key 1:@/etc/weft/site-a.key --key 2:secret -o json"
)]
pub struct DecodeArgs {
    /// Capture file; `-` for standard input
    #[arg(value_name = "FILE.pcap", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Check authentication with this Key-ID's shared secret: `ID:SECRET`, or `ID:@FILE` (trailing newline cut); several
    /// secrets of one Key-ID are tried in turn
    #[arg(short, long, value_name = "ID:SECRET")]
    pub key: Vec<String>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: DecodeFormat,
}

/// Arguments of `weft mapserver`.
#[derive(Args, Clone, Debug)]
pub struct MapServerArgs {
    /// Files with one `MapServer` and its `Secret`s.
    #[command(flatten)]
    pub files: Files,
    /// Its folders.
    #[command(flatten)]
    pub directories: Directories,
    /// Its log.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Arguments of `weft dataplane`.
#[derive(Args, Clone, Debug)]
pub struct DataplaneArgs {
    /// User that it changes to once it has what only root may open
    #[arg(long, value_name = "NUMBER", default_value_t = dataplane::link::NOBODY)]
    pub uid: u32,
    /// Group that it changes to
    #[arg(long, value_name = "NUMBER", default_value_t = dataplane::link::NOBODY)]
    pub gid: u32,
}

/// Arguments of `weft schema`.
#[derive(Args, Clone, Debug)]
pub struct SchemaArgs {
    /// Kind of object; one schema for any of them when not given
    pub kind: Option<KindName>,
    /// Write one file for each kind into this folder instead
    #[arg(long, value_name = "DIR", conflicts_with = "kind", value_hint = ValueHint::DirPath)]
    pub out: Option<PathBuf>,
}

/// Arguments of `weft completion`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "For bash: source <(weft completion bash)")]
pub struct CompletionArgs {
    /// Which shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Arguments of `weft man`.
#[derive(Args, Clone, Debug)]
pub struct ManArgs {
    /// Folder for the pages; made when it is not there
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub out: PathBuf,
}

/// How a verb prints.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct OutputArgs {
    /// How to print
    #[arg(short = 'o', long = "output", value_enum, default_value_t, id = "output")]
    pub format: Format,
}

/// A time with its unit: `200ms`, `1s`, `1.5s`, `2m`.
///
/// # Errors
/// In words, with what to write.
pub fn duration(text: &str) -> Result<Duration, String> {
    let split = text
        .find(|c: char| c != '.' && !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let value: f64 = number
        .parse()
        .map_err(|_| format!("`{text}` is no time; write a number and its unit, such as 500ms or 2s"))?;
    let seconds = match unit {
        "us" => value / 1e6,
        "ms" => value / 1e3,
        "s" => value,
        "m" => value * 60.0,
        "h" => value * 3600.0,
        "" => return Err(format!("`{text}` has no unit; write {text}s or {text}ms")),
        other => return Err(format!("`{other}` is no unit of time; use us, ms, s, m or h")),
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| format!("`{text}` is too long a time"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_and_argument_has_a_help_text() {
        for verb in Cli::command().get_subcommands() {
            assert!(verb.get_about().is_some(), "{}", verb.get_name());
            for argument in verb.get_arguments() {
                assert!(
                    argument.get_help().is_some(),
                    "{} {}",
                    verb.get_name(),
                    argument.get_id()
                );
            }
        }
    }

    #[test]
    fn times_carry_their_unit() {
        assert_eq!(duration("200ms"), Ok(Duration::from_millis(200)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert!(duration("5").unwrap_err().contains("5s"));
        assert!(duration("5 parsecs").is_err());
        assert!(duration("1e999s").is_err());
        assert!(duration("").is_err());
    }

    #[test]
    fn what_the_lab_and_people_type_is_understood() {
        for line in [
            "weft up -f a.yaml -f dir --state-dir /s --runtime-dir /r",
            "weft up",
            "weft mapserver -f ms.yaml --state-dir /s --runtime-dir /r",
            "weft status -o json",
            "weft apply -f -",
            "weft get guest -o yaml",
            "weft get all",
            "weft get networks plant -o wide",
            "weft delete guest guest-b",
            "weft delete -f x.yaml",
            "weft describe Guest guest-a",
            "weft lig [7]fd07::2",
            "weft trace guest-a fd07::b --service tcp/5201 -o json",
            "weft ping guest-b -c 1 -W 500ms",
            "weft capture --guest guest-a -w x.pcapng -c 3",
            "weft decode x.pcap --key 1:secret --key 2:@file -o json",
            "weft who-can guest-a guest-b tcp/443 --network plant -o json",
            "weft who-can label:role=meter fd07::/16",
            "weft key new a.key --instance 7",
            "weft key show a.key -o json",
            "weft key export a.key --private --force",
            "weft demo mesh -o json",
            "weft schema Guest",
        ] {
            if let Err(error) = Cli::try_parse_from(line.split(' ')) {
                panic!("{line}: {error}");
            }
        }
        for line in [
            "weft delete",
            "weft delete guest",
            "weft apply",
            "weft who-can guest-a",
            "weft key bind --key a.key --node nobody --instance 7",
            "weft key new a.key --instance 16777215",
            "weft get gest",
            "weft ping x -i 5",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
