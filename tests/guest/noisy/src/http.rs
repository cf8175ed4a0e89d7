//! One HTTP request by `wasi:http`, as plainly as it can be made.

use std::error::Error;

use wasip2::http::outgoing_handler;
use wasip2::http::types::{Fields, IncomingBody, Method, OutgoingRequest, Scheme};
use wasip2::io::streams::StreamError;

/// How much is asked for at a time.
const CHUNK: u64 = 64 << 10;

pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

/// Fetches a URL such as `http://127.0.0.1:8080/path`.
pub fn get(url: &str) -> Result<Answer, Box<dyn Error>> {
    let (scheme, rest) = url.split_once("://").ok_or("the URL has no scheme")?;
    let path_start = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(path_start);
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    };

    let request = OutgoingRequest::new(Fields::new());
    let parts = [
        request.set_method(&Method::Get),
        request.set_scheme(Some(&scheme)),
        request.set_authority(Some(authority)),
        request.set_path_with_query(Some(if path.is_empty() { "/" } else { path })),
    ];
    if parts.contains(&Err(())) {
        return Err(format!("`{url}` is no URL").into());
    }

    let pending = outgoing_handler::handle(request, None)?;
    pending.subscribe().block();
    let answer = pending.get().ok_or("no answer after waiting for it")?;
    let response = answer.map_err(|()| "the answer was taken before")??;
    let status = response.status();
    let body = response.consume().map_err(|()| "the body was taken before")?;
    Ok(Answer { status, body: read(&body)? })
}

fn read(body: &IncomingBody) -> Result<Vec<u8>, Box<dyn Error>> {
    let stream = body.stream().map_err(|()| "the stream was taken before")?;
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(CHUNK) {
            Ok(chunk) => bytes.extend(chunk),
            Err(StreamError::Closed) => return Ok(bytes),
            Err(error) => return Err(error.into()),
        }
    }
}
