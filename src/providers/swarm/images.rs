//! Images that come from no registry: loaded into one engine as an archive, found and removed by a label.
//!
//! Must not: pull or push anything.

use bytes::Bytes;
use serde_json::{Value as Json, json};

use super::connection::Request;
use super::{Swarm, SwarmError};

/// For the engine to unpack an archive.
const LOADING: std::time::Duration = std::time::Duration::from_secs(120);

impl Swarm {
    /// The id of the node whose engine answers: images that are loaded are there and nowhere else.
    pub async fn node_id(&self) -> Result<Option<String>, SwarmError> {
        let info = self.json("the engine", Request::get("/info")).await?;
        Ok(info.pointer("/Swarm/NodeID").and_then(Json::as_str).filter(|id| !id.is_empty()).map(Into::into))
    }

    /// Loads an archive as `docker save` writes it.
    pub async fn load_images(&self, archive: Bytes) -> Result<(), SwarmError> {
        let what = "the images";
        let request = Request::post("/images/load").query("quiet", "1").archive(archive).timeout(LOADING);
        let (status, bytes) = self.send(&request).await?;
        if !status.is_success() {
            return Err(SwarmError::refused(what, status, &bytes));
        }
        // One JSON value per line; what goes wrong on the way stands among them, under status 200.
        let lines = String::from_utf8_lossy(&bytes);
        let error = lines.lines().find_map(|line| {
            let line: Json = serde_json::from_str(line).ok()?;
            line.get("error")?.as_str().map(str::to_owned)
        });
        match error {
            Some(message) => Err(SwarmError::Refused { what: what.into(), status: status.as_u16(), message }),
            None => Ok(()),
        }
    }

    /// The ids of the images on this node that carry a label; one that has lost its names too.
    pub async fn images(&self, label: &str) -> Result<Vec<String>, SwarmError> {
        let filters = json!({ "label": [label] }).to_string();
        let found = self.list("images", Request::get("/images/json").query("filters", filters)).await?;
        Ok(found.iter().filter_map(|image| image.get("Id")?.as_str().map(str::to_owned)).collect())
    }

    /// Removes an image with all its names; one that is gone already is fine. One whose container runs is
    /// refused.
    pub async fn remove_image(&self, id: &str) -> Result<(), SwarmError> {
        let request = Request::delete(format!("/images/{id}")).query("force", "1");
        match self.json(&format!("image `{id}`"), request).await {
            Ok(_) | Err(SwarmError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
