//! Nodes of a Swarm that do not answer, while a change waits for tasks.

use super::{Node, Swarm, Task};
use crate::text;

/// A node that is down, and the tasks of one service that it had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Down {
    pub node: Node,
    /// Their slots; nobody has heard how they ended.
    pub tasks: Vec<u64>,
    /// It has come back since.
    pub back: bool,
    /// The Swarm still counts on one of them: it has not noticed yet, or has not made another.
    pub counted_on: bool,
}

impl Down {
    /// `node2 (10.0.0.2) is down, with task 1 on it`
    pub fn words(&self) -> String {
        if self.back {
            return format!("{} was down meanwhile", self.node.title());
        }
        let slots: Vec<String> = self.tasks.iter().map(u64::to_string).collect();
        let with = match slots.as_slice() {
            [] => String::new(),
            // A global service has none.
            [one] if one == "0" => ", with a task on it".to_owned(),
            [one] => format!(", with task {one} on it"),
            some => format!(", with tasks {} on it", text::plain_and_list(some)),
        };
        format!("{} is {}{with}", self.node.title(), self.node.state)
    }

    /// What a person does about it.
    pub fn hint(&self) -> String {
        let id = &self.node.id;
        let demote =
            if self.node.manager { format!("`docker node demote {id}` and then ") } else { String::new() };
        format!(
            "start {} again, or take it out of the Swarm: {demote}`docker node rm --force {id}`",
            self.node.title()
        )
    }
}

impl Swarm {
    /// Nodes that should take tasks and are down. Best effort: where nobody tells, there are none.
    pub(super) async fn down(&self, tasks: &[Task]) -> Vec<Down> {
        let nodes = self.nodes().await.unwrap_or_default();
        nodes.into_iter().filter_map(|node| among(node, tasks)).collect()
    }
}

/// What is down now, and what was before and is back.
pub(super) fn and_before(now: &[Down], before: &[Down]) -> Vec<Down> {
    let is_back = |one: &&Down| !now.iter().any(|down| down.node.id == one.node.id);
    let back = before.iter().filter(is_back).map(|one| Down { back: true, counted_on: false, ..one.clone() });
    now.iter().cloned().chain(back).collect()
}

fn among(node: Node, tasks: &[Task]) -> Option<Down> {
    let on_it = |task: &&Task| task.node_id.as_deref() == Some(&node.id) && task.is_open();
    let counted_on = tasks.iter().filter(on_it).any(|task| task.desired != "shutdown");
    let mut slots: Vec<u64> = tasks.iter().filter(on_it).map(|task| task.slot).collect();
    slots.sort_unstable();
    slots.dedup();
    let matters = node.availability == "active" || !slots.is_empty();
    (node.state != "ready" && matters).then_some(Down { node, tasks: slots, back: false, counted_on })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(state: &str, availability: &str) -> Node {
        let node = json!({
            "ID": "n2", "Spec": {"Role": "manager", "Availability": availability},
            "Description": {"Hostname": "node2"}, "Status": {"State": state, "Addr": "0.0.0.0"},
            "ManagerStatus": {"Addr": "10.0.0.2:2377"},
        });
        Node::read(&node).expect("a node")
    }

    fn task(node: &str, slot: u64, state: &str) -> Task {
        let task = json!({"ID": "t", "NodeID": node, "Slot": slot, "Status": {"State": state}});
        Task::read(&task).expect("a task")
    }

    #[test]
    fn a_node_that_is_down_is_named_with_the_tasks_that_it_had() {
        let tasks = [task("n1", 1, "running"), task("n2", 2, "running"), task("n2", 3, "shutdown")];
        let down = among(node("down", "active"), &tasks).expect("it is down");
        assert_eq!(down.words(), "node2 (10.0.0.2) is down, with task 2 on it");
        assert!(
            down.hint().contains("`docker node demote n2` and then `docker node rm --force n2`"),
            "{}",
            down.hint()
        );
        assert_eq!(among(node("ready", "active"), &tasks), None);
        let one = std::slice::from_ref(&down);
        assert_eq!(and_before(one, one), one);
        assert_eq!(and_before(&[], &[down])[0].words(), "node2 (10.0.0.2) was down meanwhile");
        // Somebody works on it, and nothing was lost.
        assert_eq!(among(node("down", "drain"), &tasks[..1]), None);
        assert!(among(node("down", "drain"), &tasks).is_some());
    }
}
