//! Files: uploaded and confirmed in two calls since 6.10, in one call before.
//!
//! Must not: leave the fallback to the caller.

use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use super::super::error::RestError;
use super::super::model::Message;
use super::{Rest, missing};

/// A file for a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    pub rid: String,
    /// The thread it belongs to.
    pub tmid: Option<String>,
    pub file_name: String,
    /// `text/plain`, …
    pub media_type: String,
    pub bytes: Vec<u8>,
    /// The message beside the file; may be empty.
    pub text: String,
}

impl Rest {
    /// Uploads a file and posts it. Not idempotent: the server gives the message its id.
    pub async fn upload(&self, upload: &Upload) -> Result<Message, RestError> {
        let route = "rooms.media";
        let url = self.endpoint(route, &[&upload.rid], &[]);
        let media = self.call(Method::POST, route, &url, |request| request.multipart(form(upload))).await;
        let mut answer = match media {
            Ok(answer) => answer,
            // 6.5 answers 405, others 404 or the web client's page.
            Err(RestError::Refused { status: 404 | 405, .. } | RestError::Malformed { .. }) => {
                return self.upload_at_once(upload).await;
            }
            Err(error) => return Err(error),
        };
        let file = match answer.get_mut("file").and_then(|file| file.get_mut("_id")).map(Value::take) {
            Some(Value::String(id)) => id,
            _ => return Err(missing(route, "file._id")),
        };
        let mut body = json!({ "msg": upload.text });
        if let Some(tmid) = &upload.tmid {
            body["tmid"] = json!(tmid);
        }
        let answer = self.post_at("rooms.mediaConfirm", &[&upload.rid, &file], &body).await?;
        posted("rooms.mediaConfirm", answer)
    }

    async fn upload_at_once(&self, upload: &Upload) -> Result<Message, RestError> {
        let route = "rooms.upload";
        let url = self.endpoint(route, &[&upload.rid], &[]);
        let complete = |upload: &Upload| {
            let form = form(upload).text("msg", upload.text.clone());
            match &upload.tmid {
                Some(tmid) => form.text("tmid", tmid.clone()),
                None => form,
            }
        };
        let answer =
            self.call(Method::POST, route, &url, |request| request.multipart(complete(upload))).await?;
        posted(route, answer)
    }
}

fn posted(route: &str, mut answer: super::Answer) -> Result<Message, RestError> {
    answer.remove("message").and_then(Message::from_value).ok_or_else(|| missing(route, "message"))
}

fn form(upload: &Upload) -> Form {
    let part = |bytes: Vec<u8>| Part::bytes(bytes).file_name(upload.file_name.clone());
    // An odd media type is sent as the server's default rather than not at all.
    let file = part(upload.bytes.clone())
        .mime_str(&upload.media_type)
        .unwrap_or_else(|_| part(upload.bytes.clone()));
    Form::new().part("file", file)
}
