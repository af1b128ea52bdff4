//! The packs of `examples/packs`: on a healthy system nothing is found, and each fault of its own is, alone.

mod packs {
    mod analytics;
    mod api;
    mod elaro;
    mod engagement_deployment;
    mod engagement_events;
    mod fault;
    mod pggit;
    #[path = "../host/phoenix.rs"]
    #[expect(dead_code, reason = "some of it is for other tests")]
    mod phoenix;
    mod readme;
    mod stand;
}
#[path = "demo/local.rs"]
#[expect(dead_code, reason = "some of it is for other tests")]
mod local;
