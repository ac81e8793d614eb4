//! Connections to servers that demand something: certificates, keys, passwords; and their rotation while work goes on.

mod postgres;
mod temporal;
