//! What a sweep makes of what is an administrator's, a stranger's or nobody's: findings, each with what mends it. Pure;
//! nothing here is mended by forerunner.

pub mod azure;
pub mod cluster;
pub mod gitlab;
