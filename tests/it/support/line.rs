//! A way to an engine's socket that can be cut: what was connected is dropped, and nothing more comes through until
//! it is mended.
//!
//! Must not: change what comes through.

use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

pub struct Line {
    path: PathBuf,
    whole: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Line {
    /// From `path` to the socket `to`.
    pub fn new(path: PathBuf, to: &Path) -> Self {
        let listener = UnixListener::bind(&path).expect("a socket");
        let (whole, to) = (watch::Sender::new(true), to.to_owned());
        let state = whole.subscribe();
        let task = tokio::spawn(async move {
            while let Ok((mut here, _)) = listener.accept().await {
                let (mut state, to) = (state.clone(), to.clone());
                tokio::spawn(async move {
                    if !*state.borrow_and_update() {
                        return;
                    }
                    let Ok(mut there) = UnixStream::connect(to).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut here, &mut there) => {}
                        _ = state.wait_for(|whole| !whole) => {}
                    }
                });
            }
        });
        Self { path, whole, task }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn cut(&self) {
        self.whole.send_replace(false);
    }

    pub fn mend(&self) {
        self.whole.send_replace(true);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}
