use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use data_encoding::BASE64;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_NONE_MATCH, RANGE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use quick_xml::events::Event;
use url::Url;

use crate::server::{Inner, Operation};
use crate::{ACCOUNT, CONTAINER, sas};

type Answer = Response<Full<Bytes>>;

/// The greatest block.
const MAX_BLOCK: u64 = 4000 << 20;

/// A refusal: its status and its code.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) StatusCode, pub(crate) &'static str);

impl Refusal {
    pub(crate) fn response(self, head: bool) -> Answer {
        let xml = format!("<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>{}</Code></Error>", self.1);
        let mut response = Response::new(if head { Full::default() } else { xml.into() });
        *response.status_mut() = self.0;
        response.headers_mut().insert("x-ms-error-code", HeaderValue::from_static(self.1));
        response
    }
}

const fn bad(code: &'static str) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, code)
}

const MISSING: Refusal = Refusal(StatusCode::NOT_FOUND, "BlobNotFound");

#[derive(Debug, Default)]
pub(crate) struct Store {
    blobs: BTreeMap<String, Blob>,
    etags: u64,
}

#[derive(Debug, Default)]
struct Blob {
    committed: Option<Committed>,
    /// By their names, in base64.
    uncommitted: BTreeMap<String, Bytes>,
}

#[derive(Debug, Clone)]
struct Committed {
    blocks: Vec<(String, Bytes)>,
    etag: String,
    modified: Timestamp,
    /// How often somebody has to ask before the copy is done.
    copying: Option<u32>,
}

impl Committed {
    fn content(&self) -> Bytes {
        self.blocks.iter().map(|(_, bytes)| &bytes[..]).collect::<Vec<_>>().concat().into()
    }
}

impl Store {
    pub(crate) fn names(&self) -> Vec<String> {
        self.blobs.keys().cloned().collect()
    }

    pub(crate) fn content(&self, name: &str) -> Option<Bytes> {
        self.blobs.get(name)?.committed.as_ref().map(Committed::content)
    }

    fn committed(&self, name: &str) -> Result<&Committed, Refusal> {
        self.blobs.get(name).and_then(|blob| blob.committed.as_ref()).ok_or(MISSING)
    }

    /// Writes a blob. Blocks that are not part of it go.
    fn commit(&mut self, name: &str, blocks: Vec<(String, Bytes)>, copying: Option<u32>) -> String {
        self.etags += 1;
        let etag = format!("\"0x{:X}\"", self.etags);
        let committed = Committed { blocks, etag: etag.clone(), modified: Timestamp::now(), copying };
        let blob = Blob { committed: Some(committed), uncommitted: BTreeMap::new() };
        self.blobs.insert(name.to_owned(), blob);
        etag
    }
}

fn query(text: Option<&str>) -> HashMap<String, String> {
    url::form_urlencoded::parse(text.unwrap_or_default().as_bytes()).into_owned().collect()
}

pub(crate) fn operation(request: &Request<Incoming>) -> Operation {
    let query = query(request.uri().query());
    let comp = query.get("comp").map_or("", String::as_str);
    match (request.method(), comp) {
        (&Method::PUT, "block") => Operation::PutBlock,
        (&Method::PUT, "blocklist") => Operation::PutBlockList,
        (&Method::PUT, _) if request.headers().contains_key("x-ms-copy-source") => Operation::CopyBlob,
        (&Method::PUT, _) => Operation::PutBlob,
        (&Method::DELETE, _) => Operation::DeleteBlob,
        (&Method::HEAD, _) => Operation::HeadBlob,
        (_, "blocklist") => Operation::GetBlockList,
        (_, "list") => Operation::ListBlobs,
        _ => Operation::GetBlob,
    }
}

/// The name of the blob in a path; empty for the container itself.
fn blob_name(path: &str) -> Result<&str, Refusal> {
    let inside = path.strip_prefix('/').and_then(|path| path.strip_prefix(ACCOUNT)?.strip_prefix('/'));
    let (container, name) = inside.map_or(("", ""), |path| path.split_once('/').unwrap_or((path, "")));
    if container == CONTAINER { Ok(name) } else { Err(Refusal(StatusCode::NOT_FOUND, "ContainerNotFound")) }
}

pub(crate) async fn answer(inner: &Inner, request: Request<Incoming>) -> Result<Answer, Refusal> {
    let operation = operation(&request);
    let (parts, body) = request.into_parts();
    let query = query(parts.uri.query());
    let name = blob_name(parts.uri.path())?;
    let right = match operation {
        Operation::DeleteBlob => 'd',
        Operation::GetBlob | Operation::GetBlockList | Operation::HeadBlob => 'r',
        Operation::ListBlobs => 'l',
        Operation::CopyBlob | Operation::PutBlob | Operation::PutBlock | Operation::PutBlockList => 'w',
    };
    sas::check(&query, name, right, !inner.rules.ignores_expiry)?;
    let length =
        parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if right == 'w' && length.is_none() {
        return Err(Refusal(StatusCode::LENGTH_REQUIRED, "MissingContentLengthHeader"));
    }
    if length.is_some_and(|length| length > MAX_BLOCK) {
        return Err(Refusal(StatusCode::PAYLOAD_TOO_LARGE, "RequestBodyTooLarge"));
    }
    // A body that breaks off leaves nothing.
    let body = body.collect().await.map_err(|_| bad("InvalidInput"))?.to_bytes();
    match operation {
        Operation::PutBlock => put_block(inner, name, &query, body),
        Operation::PutBlockList => put_block_list(inner, name, &body),
        Operation::CopyBlob => copy(inner, name, &parts.headers),
        Operation::PutBlob => {
            if parts.headers.get("x-ms-blob-type").is_none_or(|kind| kind != "BlockBlob") {
                return Err(bad("MissingRequiredHeader"));
            }
            let blocks = if body.is_empty() { Vec::new() } else { vec![(String::new(), body)] };
            Ok(created(&inner.store().commit(name, blocks, None)))
        }
        Operation::DeleteBlob => {
            let mut store = inner.store();
            store.committed(name)?;
            store.blobs.remove(name);
            Ok(status(StatusCode::ACCEPTED))
        }
        Operation::GetBlockList => block_list(inner, name),
        Operation::ListBlobs => list(inner, &query),
        Operation::GetBlob | Operation::HeadBlob => get(inner, name, &parts.headers, operation),
    }
}

fn put_block(
    inner: &Inner,
    name: &str,
    query: &HashMap<String, String>,
    body: Bytes,
) -> Result<Answer, Refusal> {
    let id = query.get("blockid").ok_or(bad("MissingRequiredQueryParameter"))?;
    let decoded = BASE64.decode(id.as_bytes()).map_err(|_| bad("InvalidQueryParameterValue"))?;
    if decoded.is_empty() || decoded.len() > 64 || body.is_empty() {
        return Err(bad("InvalidQueryParameterValue"));
    }
    let mut store = inner.store();
    let blob = store.blobs.entry(name.to_owned()).or_default();
    if blob.uncommitted.keys().any(|other| other.len() != id.len()) {
        return Err(bad("InvalidBlobOrBlock"));
    }
    blob.uncommitted.insert(id.clone(), body);
    Ok(status(StatusCode::CREATED))
}

fn put_block_list(inner: &Inner, name: &str, body: &[u8]) -> Result<Answer, Refusal> {
    let mut reader = quick_xml::Reader::from_reader(body);
    let mut ids = Vec::new();
    let mut inside = false;
    loop {
        match reader.read_event().map_err(|_| bad("InvalidXmlDocument"))? {
            Event::Start(tag) => inside = tag.name().as_ref() == b"Latest",
            Event::Text(text) if inside => ids.push(String::from_utf8_lossy(&text).into_owned()),
            Event::End(_) => inside = false,
            Event::Eof => break,
            _ => {}
        }
    }
    let mut store = inner.store();
    let blob = store.blobs.entry(name.to_owned()).or_default();
    let committed = blob.committed.as_ref().map(|committed| &committed.blocks[..]).unwrap_or_default();
    let block = |id: &String| {
        let old = || committed.iter().find(|(name, _)| name == id).map(|(_, bytes)| bytes.clone());
        blob.uncommitted.get(id).cloned().or_else(old).map(|bytes| (id.clone(), bytes))
    };
    let blocks: Option<Vec<_>> = ids.iter().map(block).collect();
    let blocks = blocks.ok_or(bad("InvalidBlockList"))?;
    Ok(created(&store.commit(name, blocks, None)))
}

fn copy(inner: &Inner, name: &str, headers: &HeaderMap) -> Result<Answer, Refusal> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let source: Url =
        text("x-ms-copy-source").and_then(|url| url.parse().ok()).ok_or(bad("InvalidHeaderValue"))?;
    if source.port() != Some(inner.address.port()) {
        return Err(Refusal(StatusCode::NOT_FOUND, "CannotVerifyCopySource"));
    }
    let from = blob_name(source.path())?;
    sas::check(&query(source.query()), from, 'r', true)?;
    let mut store = inner.store();
    let original = store.committed(from)?.clone();
    if text("x-ms-source-if-match").is_some_and(|etag| etag != original.etag) {
        return Err(Refusal(StatusCode::PRECONDITION_FAILED, "SourceConditionNotMet"));
    }
    if text(IF_NONE_MATCH.as_str()) == Some("*") && store.committed(name).is_ok() {
        return Err(Refusal(StatusCode::CONFLICT, "BlobAlreadyExists"));
    }
    let polls = Some(inner.rules.copy_polls).filter(|polls| *polls > 0);
    let etag = store.commit(name, original.blocks, polls);
    let mut response = created(&etag);
    *response.status_mut() = StatusCode::ACCEPTED;
    let state = if polls.is_some() { "pending" } else { "success" };
    response.headers_mut().insert("x-ms-copy-status", HeaderValue::from_static(state));
    Ok(response)
}

fn block_list(inner: &Inner, name: &str) -> Result<Answer, Refusal> {
    let store = inner.store();
    let blob = store.blobs.get(name).ok_or(MISSING)?;
    let list = |tag: &str, blocks: &mut dyn Iterator<Item = (&String, &Bytes)>| {
        let blocks: Vec<String> = blocks
            .map(|(id, bytes)| format!("<Block><Name>{id}</Name><Size>{}</Size></Block>", bytes.len()))
            .collect();
        let blocks = blocks.concat();
        format!("<{tag}>{blocks}</{tag}>")
    };
    let committed = blob.committed.iter().flat_map(|committed| &committed.blocks);
    let committed = list("CommittedBlocks", &mut committed.map(|(id, bytes)| (id, bytes)));
    let uncommitted = list("UncommittedBlocks", &mut blob.uncommitted.iter());
    Ok(xml(format!("<BlockList>{committed}{uncommitted}</BlockList>")))
}

fn list(inner: &Inner, query: &HashMap<String, String>) -> Result<Answer, Refusal> {
    let field = |name: &str| query.get(name).map_or("", String::as_str);
    if field("restype") != "container" {
        return Err(bad("InvalidQueryParameterValue"));
    }
    let store = inner.store();
    let mut blobs = store
        .blobs
        .range(field("marker").to_owned()..)
        .filter(|(name, _)| name.starts_with(field("prefix")))
        .filter_map(|(name, blob)| Some((name, blob.committed.as_ref()?)));
    let page: Vec<String> = blobs
        .by_ref()
        .take(inner.rules.page)
        .map(|(name, committed)| {
            format!(
                "<Blob><Name>{name}</Name><Properties><Last-Modified>{}</Last-Modified><Content-Length>{}\
                 </Content-Length><BlobType>BlockBlob</BlobType></Properties></Blob>",
                rfc9110(committed.modified),
                committed.content().len()
            )
        })
        .collect();
    let page = page.concat();
    let next = blobs.next().map(|(name, _)| name.as_str()).unwrap_or_default();
    // The real one begins with a byte order mark.
    Ok(xml(format!(
        "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults><Blobs>{page}</Blobs>\
         <NextMarker>{next}</NextMarker></EnumerationResults>"
    )))
}

fn get(inner: &Inner, name: &str, headers: &HeaderMap, operation: Operation) -> Result<Answer, Refusal> {
    let mut store = inner.store();
    store.committed(name)?;
    let committed = store.blobs.get_mut(name).and_then(|blob| blob.committed.as_mut()).ok_or(MISSING)?;
    let copying = committed.copying.is_some();
    committed.copying = committed.copying.and_then(|polls| polls.checked_sub(1)).filter(|polls| *polls > 0);
    let whole = committed.content();
    let etag = committed.etag.clone();
    drop(store);
    let range = headers.get(RANGE).and_then(|range| range.to_str().ok()?.strip_prefix("bytes="));
    let range = range.and_then(|range| range.split_once('-'));
    let range = range.and_then(|(start, end)| Some((start.parse().ok()?, end.parse::<usize>().ok()? + 1)));
    let (body, code, extent) = match range {
        Some((start, _)) if start >= whole.len() => {
            return Err(Refusal(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange"));
        }
        Some((start, end)) => {
            let end = end.min(whole.len());
            let extent = format!("bytes {start}-{}/{}", end - 1, whole.len());
            (whole.slice(start..end), StatusCode::PARTIAL_CONTENT, Some(extent))
        }
        None => (whole, StatusCode::OK, None),
    };
    let length = HeaderValue::from(body.len());
    let mut response =
        Response::new(if operation == Operation::HeadBlob { Full::default() } else { body.into() });
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, length);
    headers.insert(ETAG, etag.parse().expect("hex in quotes"));
    headers.extend(extent.map(|extent| (CONTENT_RANGE, extent.parse().expect("digits"))));
    if copying {
        headers.insert("x-ms-copy-status", HeaderValue::from_static("pending"));
    }
    Ok(response)
}

fn status(code: StatusCode) -> Answer {
    let mut response = Answer::default();
    *response.status_mut() = code;
    response
}

fn created(etag: &str) -> Answer {
    let mut response = status(StatusCode::CREATED);
    response.headers_mut().insert(ETAG, etag.parse().expect("hex in quotes"));
    response
}

fn xml(text: String) -> Answer {
    Response::new(text.into())
}

fn rfc9110(at: Timestamp) -> String {
    DateTimePrinter::new().timestamp_to_rfc9110_string(&at).unwrap_or_default()
}

pub(crate) fn date() -> HeaderValue {
    HeaderValue::try_from(rfc9110(Timestamp::now())).unwrap_or(HeaderValue::from_static("now"))
}
