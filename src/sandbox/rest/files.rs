//! Files: uploads in one step (6.5) or two (8.x), and downloads for whoever may read the room.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, FromRequest as _, Multipart, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::{Value, json};

use super::{Answer, Caller};
use crate::ids::random_id;
use crate::sandbox::refusal::Refusal;
use crate::sandbox::server::Shared;
use crate::sandbox::state::{Doc, File, Sending, Via, World, text};

/// How many files are kept.
const MOST_FILES: usize = 500;

/// `FileUpload_MaxFileSize` of a new workspace; without a word the HTTP library takes two megabytes.
const LARGEST_FILE: usize = 104_857_600;

/// A multipart body.
pub async fn receive(
    shared: &Arc<Shared>,
    mut request: Request,
    caller: &Caller,
    name: &str,
    args: Vec<String>,
) -> Answer {
    let no_file = || Refusal::code("No file uploaded");
    let rid = args.into_iter().next().unwrap_or_default();
    DefaultBodyLimit::max(LARGEST_FILE).apply(&mut request);
    let Ok(mut form) = Multipart::from_request(request, shared).await else { return Err(no_file()) };
    let mut fields = Doc::new();
    let mut file: Option<(String, String, Bytes)> = None;
    while let Ok(Some(field)) = form.next_field().await {
        let key = field.name().unwrap_or_default().to_owned();
        let file_name = field.file_name().map(str::to_owned);
        let kind = field.content_type().unwrap_or("application/octet-stream").to_owned();
        let Ok(bytes) = field.bytes().await else { return Err(no_file()) };
        match file_name {
            Some(file_name) if key == "file" => file = Some((file_name, kind, bytes)),
            _ => {
                fields.insert(key, String::from_utf8_lossy(&bytes).into_owned().into());
            }
        }
    }
    let Some((file_name, content_type, bytes)) = file else { return Err(no_file()) };
    let mut world = shared.world();
    if !world.can_access(&rid, &caller.uid) {
        return Err(Refusal::code("unauthorized"));
    }
    if world.files.len() >= MOST_FILES
        && let Some(oldest) = world.files.keys().next().cloned()
    {
        world.files.remove(&oldest);
    }
    let id = random_id();
    let url = format!("/file-upload/{id}/{file_name}");
    let file = File { room: rid.clone(), owner: caller.uid.clone(), name: file_name, content_type, bytes };
    world.files.insert(id.clone(), file);
    if name == "rooms.upload" {
        announce(&mut world, &caller.uid, &rid, &id, &fields)
    } else {
        Ok(json!({"file": {"_id": id, "url": url}}))
    }
}

/// The message about an uploaded file.
pub fn announce(world: &mut World, uid: &str, rid: &str, id: &str, fields: &Doc) -> Answer {
    let file = world.files.get(id).filter(|file| file.room == rid && file.owner == uid);
    let Some(file) = file else { return Err(Refusal::new("invalid-file", "File not found")) };
    let name = if text(fields, "fileName").is_empty() { &file.name } else { text(fields, "fileName") };
    let brief = json!({"_id": id, "name": name, "type": file.content_type});
    let mut attachment = json!({"ts": {"$date": 0}, "title": name, "title_link": format!("/file-upload/{id}/{}", file.name),
        "title_link_download": true, "type": "file", "size": file.bytes.len()});
    if file.content_type.starts_with("image/") {
        attachment["image_url"] = attachment["title_link"].clone();
        attachment["image_type"] = file.content_type.as_str().into();
        attachment["image_size"] = file.bytes.len().into();
    }
    if !text(fields, "description").is_empty() {
        attachment["description"] = text(fields, "description").into();
    }
    let doc = json!({"rid": rid, "msg": text(fields, "msg"), "file": brief, "files": [brief],
        "attachments": [attachment], "groupable": false});
    let Value::Object(mut doc) = doc else { return Err(Refusal::Bare) };
    for key in ["tmid", "alias", "avatar", "emoji"] {
        if !text(fields, key).is_empty() {
            doc.insert(key.into(), text(fields, key).into());
        }
    }
    let message = world.send(uid, Sending { doc, via: Via::Upload })?;
    Ok(json!({"message": message}))
}

/// `GET /file-upload/:id/:name`, with the headers of REST, the web client's cookies, or `rc_uid` and
/// `rc_token` in the query.
pub async fn download(
    State(shared): State<Arc<Shared>>,
    Path((id, _)): Path<(String, String)>,
    Query(query): Query<std::collections::HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let world = shared.world();
    let given = |header: &str, key: &str| {
        let value = headers.get(header).and_then(|value| value.to_str().ok());
        value.or_else(|| query.get(key).map(String::as_str)).unwrap_or_default().to_owned()
    };
    let (user, token) = (given("x-user-id", "rc_uid"), given("x-auth-token", "rc_token"));
    let reader = world.check_token(&token).map(|(uid, _)| uid).filter(|uid| *uid == user);
    let file = world.files.get(&id);
    match (file, reader) {
        (None, _) => StatusCode::NOT_FOUND.into_response(),
        (Some(file), Some(uid)) if world.can_access(&file.room, &uid) => {
            // Never rendered in the page's own origin, whatever somebody uploaded.
            let headers = [
                (header::CONTENT_TYPE, file.content_type.clone()),
                (header::CONTENT_DISPOSITION, "attachment".to_owned()),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
            ];
            (headers, file.bytes.clone()).into_response()
        }
        _ => StatusCode::FORBIDDEN.into_response(),
    }
}
