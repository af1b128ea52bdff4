//! Throwaway real servers, proxies and fault stores for tests.
