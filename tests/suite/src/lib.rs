//! Every test that needs a server.
