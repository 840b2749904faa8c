//! The stages of the pipeline. None imports another: `pipeline` alone sequences them.

pub mod admit;
pub mod follow;
pub mod install;
pub mod judge;
pub mod neighbour;
pub mod parse;
pub mod refuse;
pub mod replay;
pub mod route;
pub mod segment;
pub mod sender;
pub mod track;
pub mod translate;
