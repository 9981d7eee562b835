//! The state database (redb).
