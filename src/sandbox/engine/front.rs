//! A service's front: one loopback port, whose new connections go in turn to the tasks that run.
//!
//! Must not: understand what it forwards. A task answers one request a connection, so a request never
//! meets a task that has been asked to end: the engine waits for the task's open connections first.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::world::Shared;

/// How many tasks a connection is offered to before it is refused.
const ATTEMPTS: usize = 5;

/// Counts a connection of a task for as long as it lives.
struct Connection {
    shared: Arc<Shared>,
    task: String,
    port: u16,
}

impl Drop for Connection {
    fn drop(&mut self) {
        // A change, not a touch: an ending task waits for this.
        self.shared.change(|world| {
            if let Some(task) = world.tasks.get_mut(&self.task) {
                task.connections = task.connections.saturating_sub(1);
            }
        });
    }
}

/// Accepts connections until the service is gone.
pub async fn forward(shared: Arc<Shared>, service: String, listener: TcpListener, gone: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = gone.cancelled() => return,
        };
        match accepted {
            Ok((client, _)) => {
                let (shared, service, gone) = (shared.clone(), service.clone(), gone.clone());
                shared.tracker.clone().spawn(async move {
                    tokio::select! {
                        () = serve(&shared, &service, client) => {}
                        () = gone.cancelled() => {}
                    }
                });
            }
            // Out of file descriptors, most likely: wait for some to come back.
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn serve(shared: &Arc<Shared>, service: &str, mut client: TcpStream) {
    for _ in 0..ATTEMPTS {
        let Some(connection) = choose(shared, service) else { break };
        if let Ok(mut task) = TcpStream::connect(("127.0.0.1", connection.port)).await {
            let _ = copy_bidirectional(&mut client, &mut task).await;
            return;
        }
    }
    // What the client says is read first: closing on unread bytes resets the connection and the answer
    // would be lost.
    let _ = timeout(Duration::from_millis(200), client.read(&mut [0u8; 4096])).await;
    let body = "no running task\n";
    let head = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nConnection: close\r\n";
    let _ = client.write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).await;
    let _ = client.shutdown().await;
}

/// The next running task of the round, its connection counted under the same lock.
fn choose(shared: &Arc<Shared>, service: &str) -> Option<Connection> {
    shared.touch(|world| {
        let turn = {
            let service = world.services.get_mut(service)?;
            service.turn = service.turn.wrapping_add(1);
            service.turn
        };
        let mut serving: Vec<_> = world
            .tasks
            .values_mut()
            .filter(|task| task.service == service && task.serving())
            .filter_map(|task| task.port.map(|port| (task, port)))
            .collect();
        let count = serving.len();
        let (task, port) = serving.get_mut(turn.checked_rem(count)?)?;
        task.connections += 1;
        Some(Connection { shared: shared.clone(), task: task.id.clone(), port: *port })
    })
}
