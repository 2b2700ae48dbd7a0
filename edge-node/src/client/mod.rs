//! Client verbs: each asks a running node over its control API and prints what it says.

/// Prints a line. Who reads it may have read enough (`weft status | head`): that is no failure.
macro_rules! say {
    ($($argument:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($argument)*);
    }};
}

/// As `say`, without the end of the line.
macro_rules! say_exactly {
    ($($argument:tt)*) => {{
        use std::io::Write as _;
        let _ = write!(std::io::stdout(), $($argument)*);
    }};
}

mod apply;
mod capture;
mod connection;
mod key;
mod objects;
mod pcapng;
mod print;
mod probe;
mod status;
mod who_can;

pub use apply::{apply, delete, plan};
pub use capture::capture;
pub use key::key;
pub use objects::{describe, get};
pub use probe::{lig, ping, trace};
pub use status::status;
pub use who_can::who_can;
