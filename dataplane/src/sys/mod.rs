//! System calls that the standard library and rustix have no safe door for. The only `unsafe` of this crate's I/O
//! half lives here: one file for each group of calls, each call with its safety argument.

pub(crate) mod control_message;
pub(crate) mod mmsg;
pub(crate) mod packet;
pub(crate) mod sockopt;
pub(crate) mod tun;
