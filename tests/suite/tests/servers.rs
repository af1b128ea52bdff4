//! The servers that everything else is tested on: they start, behave as told, and leave nothing behind.

mod throwaway;
