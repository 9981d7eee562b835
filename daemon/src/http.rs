//! The HTTP API over Unix and TCP listeners.
