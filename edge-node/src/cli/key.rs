//! Arguments of `weft key` and `weft who-can`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};
use lisp::{InstanceId, mesh::PublicKey};

use super::{NodeSelection, OutputArgs};

/// Arguments of `weft key`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "A key file holds a private key: nobody but its owner may read it. Statements are no secrets; Secret \
                  objects point to their files all the same.\n\nExamples:\n  weft key new authority.key\n  \
                  weft key bind --key authority.key --node p256:… --instance 7 --prefix 10.7.2.9/32 --out site-b.binding\n  \
                  weft key member --key authority.key --node p256:… --instance 7 --out site-b.membership"
)]
pub struct KeyArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: KeyCommand,
}

/// What `weft key` does.
#[derive(Clone, Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a private key; its file must not be there yet
    New(KeyNewArgs),
    /// Show the public half of a key, or what a statement file says
    Show(KeyShowArgs),
    /// Sign that a node speaks for an EID: with the EID's own key, or with --prefix as the network's authority
    Bind(KeyBindArgs),
    /// Sign, as the network's authority, that a node may join
    Member(KeyMemberArgs),
    /// Print the public half of a key, or with --private the key
    Export(KeyExportArgs),
}

/// Arguments of `weft key new`.
#[derive(Args, Clone, Debug)]
pub struct KeyNewArgs {
    /// File to make, mode 0600
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Show the EID that the key hashes to in this Instance-ID
    #[arg(long, value_name = "NUMBER", value_parser = instance)]
    pub instance: Option<InstanceId>,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `weft key show`.
#[derive(Args, Clone, Debug)]
pub struct KeyShowArgs {
    /// Key file or statement file
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Show the EID that the key hashes to in this Instance-ID
    #[arg(long, value_name = "NUMBER", value_parser = instance)]
    pub instance: Option<InstanceId>,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `weft key bind`.
#[derive(Args, Clone, Debug)]
pub struct KeyBindArgs {
    /// Private key of the EID, or with --prefix of the network's authority
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub key: PathBuf,
    /// Public key of the node that is to speak for it, `p256:…`
    #[arg(long, value_name = "KEY")]
    pub node: PublicKey,
    /// Instance-ID of the network
    #[arg(long, value_name = "NUMBER", value_parser = instance)]
    pub instance: InstanceId,
    /// EID-prefix or address; without it the address that the key hashes to
    #[arg(long, value_name = "PREFIX")]
    pub prefix: Option<String>,
    /// Days that it is valid
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub days: u32,
    /// The highest epoch of an EID wins; the time now in milliseconds when not given
    #[arg(long)]
    pub epoch: Option<u64>,
    /// File to make; standard output when not given
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub out: Option<PathBuf>,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `weft key member`.
#[derive(Args, Clone, Debug)]
pub struct KeyMemberArgs {
    /// Private key of the network's authority
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub key: PathBuf,
    /// Public key of the node that may join, `p256:…`
    #[arg(long, value_name = "KEY")]
    pub node: PublicKey,
    /// Instance-ID of the network
    #[arg(long, value_name = "NUMBER", value_parser = instance)]
    pub instance: InstanceId,
    /// Days that it is valid
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub days: u32,
    /// File to make; standard output when not given
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub out: Option<PathBuf>,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `weft key export`.
#[derive(Args, Clone, Debug)]
pub struct KeyExportArgs {
    /// Key file
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Print the private key: whoever reads it is whose key it is
    #[arg(long)]
    pub private: bool,
    /// Print the private key even to a terminal
    #[arg(long, requires = "private")]
    pub force: bool,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `weft who-can`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Ends with 0 when everything that is asked about is allowed, with 1 otherwise.\n\nExamples:\n  \
                  weft who-can guest-a guest-b tcp/443\n  weft who-can label:role=meter fd07::/16"
)]
pub struct WhoCanArgs {
    /// Who would send: a guest, a member, a name, a network, an address or prefix, or `label:KEY=VALUE`
    #[arg(value_name = "FROM")]
    pub from: String,
    /// To whom
    #[arg(value_name = "TO")]
    pub to: String,
    /// What: `icmp`, `tcp/PORT`, `udp/PORT` or `protocol/NUMBER`; anything when not given
    #[arg(value_name = "SERVICE")]
    pub service: Option<String>,
    /// Only in this network
    #[arg(long, value_name = "NAME")]
    pub network: Option<String>,
    /// The node.
    #[command(flatten)]
    pub node: NodeSelection,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

fn instance(text: &str) -> Result<InstanceId, String> {
    text.parse::<u32>()
        .ok()
        .and_then(InstanceId::new)
        .filter(|instance| *instance != InstanceId::CONTROL)
        .ok_or_else(|| format!("`{text}` is no Instance-ID: write a number from 0 to 16777214"))
}
