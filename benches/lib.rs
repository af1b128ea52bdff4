//! The benchmarks are beside this file; how to run them, and what they told, is in `README.md`.
