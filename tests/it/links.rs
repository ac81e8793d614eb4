//! Connections to servers that demand something: certificates, keys, passwords; and their rotation while work goes on.

pub(crate) mod postgres;
pub(crate) mod temporal;
