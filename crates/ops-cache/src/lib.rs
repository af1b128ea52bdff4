//! Redis and Valkey health probes and throwaway local servers for ops.
