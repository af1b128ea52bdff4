//! PostgreSQL health probes and throwaway local clusters for ops.
