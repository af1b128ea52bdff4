//! The demo shows what was planted and nothing else, and leaves nothing behind however it ends.

#[path = "demo/command.rs"]
mod command;
#[path = "demo/end.rs"]
mod end;
#[path = "demo/local.rs"]
mod local;
#[path = "demo/plants.rs"]
mod plants;
#[path = "throwaway/processes.rs"]
#[expect(dead_code, reason = "some of it is for other tests")]
mod processes;
