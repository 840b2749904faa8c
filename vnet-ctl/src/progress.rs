//! Shows on a terminal how far a change is that takes its time.
//!
//! Asks the daemon over a connection of its own, and draws on stderr; nothing is left there at the end.

use std::{future::Future, path::Path, time::Duration};

use hyper::{Method, body::Bytes};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};
use tokio::time::{MissedTickBehavior, interval, sleep};
use vnet_ctl::api::{exchange, types::ProgressInfo};

/// What is done sooner needs no bar.
const PATIENCE: Duration = Duration::from_millis(500);
/// Between two looks.
const PERIOD: Duration = Duration::from_millis(100);

/// What `work` gives; while it goes on for long, the daemon at `socket` is asked how far it is.
pub(crate) async fn shown<T>(socket: &Path, work: impl Future<Output = T>) -> T {
    tokio::select! {
        done = work => done,
        never = watch(socket) => match never {},
    }
}

/// Draws until it is dropped.
async fn watch(socket: &Path) -> std::convert::Infallible {
    sleep(PATIENCE).await;
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())
        .with_finish(ProgressFinish::AndClear);
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match ask(socket).await {
            Some(Some(info)) => draw(&bar, &info),
            // Not begun yet: another change goes first.
            Some(None) => {
                draw(&bar, &ProgressInfo { stage: "waiting".to_owned(), ..ProgressInfo::default() })
            }
            // A daemon that does not tell.
            None => std::future::pending().await,
        }
    }
}

/// What the daemon says; `None` if it has nothing to say about it, as one of an older version.
async fn ask(socket: &Path) -> Option<Option<ProgressInfo>> {
    let (status, body) = exchange(socket, Method::GET, "/v1/progress", Bytes::new()).await.ok()?;
    status.is_success().then(|| serde_json::from_slice(&body).ok()).flatten()
}

fn draw(bar: &ProgressBar, info: &ProgressInfo) {
    let template = match info.total {
        0 => "{spinner} {msg} ({elapsed})",
        _ => "{spinner} {msg} {wide_bar} {pos}/{len} ({elapsed})",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(info.stage.clone());
    bar.set_length(info.total);
    bar.set_position(info.done);
    bar.tick();
}
