//! Seeds from the published vectors, which lie with the tests of atcr-pds.

use std::path::{Path, PathBuf};

use atcr_pds::repo::Commit;
use atcr_pds::repo::car::{CarLimits, read_slice};
use atcr_pds::repo::mst::NodeBlock;

/// The names of the targets that have seeds.
pub const TARGETS: [&str; 7] =
    ["pds_cbor", "pds_json", "pds_car", "pds_mst_node", "pds_commit", "pds_frame", "pds_text"];

/// Every file below a folder that ends so, in the order of the names.
fn files(folder: &Path, ending: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).expect("the vectors") {
            let path = entry.expect("a file").path();
            if path.is_dir() {
                open.push(path);
            } else if path.to_str().is_some_and(|name| name.ends_with(ending)) {
                paths.push(path);
            }
        }
    }
    paths.sort();
    paths.into_iter().map(|path| std::fs::read(path).expect("a file")).collect()
}

/// The blocks of every CAR file.
fn blocks(vectors: &Path) -> Vec<Vec<u8>> {
    let mut blocks = Vec::new();
    for file in files(vectors, ".car") {
        let slice = read_slice(file.into(), CarLimits::default()).expect("a CAR file");
        let mut sorted: Vec<_> = slice.blocks.into_iter().collect();
        sorted.sort();
        blocks.extend(sorted.into_iter().map(|(_, bytes)| bytes.to_vec()));
    }
    blocks
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).expect("hex")).collect()
}

/// The seeds of a target. `vectors` is `tests/vectors` of atcr-pds.
pub fn seeds(target: &str, vectors: &Path) -> Vec<Vec<u8>> {
    let node = |block: &Vec<u8>| NodeBlock::decode(block.clone().into()).is_ok();
    let commit = |block: &Vec<u8>| Commit::decode(block).is_ok();
    match target {
        "pds_cbor" => {
            let mut all = files(vectors, ".cbor");
            all.extend(blocks(vectors).into_iter().filter(|b| !node(b) && !commit(b)).take(300));
            for file in files(&vectors.join("dasl"), ".json") {
                let cases: serde_json::Value = serde_json::from_slice(&file).expect("JSON");
                all.extend(
                    cases.as_array().into_iter().flatten().filter_map(|c| c["data"].as_str().map(hex)),
                );
            }
            all
        }
        "pds_json" => {
            let mut all = files(&vectors.join("indigo"), ".json");
            for file in files(&vectors.join("atproto-interop-tests/data-model"), ".json") {
                let cases: serde_json::Value = serde_json::from_slice(&file).expect("JSON");
                all.extend(
                    cases.as_array().into_iter().flatten().map(|case| case["json"].to_string().into_bytes()),
                );
            }
            all
        }
        "pds_car" => files(vectors, ".car"),
        "pds_mst_node" => {
            // Some nodes by themselves, and all of a repo with its root last.
            let sized = |block: Vec<u8>| {
                let len = u16::try_from(block.len()).unwrap_or(u16::MAX);
                [&len.to_be_bytes()[..], &block].concat()
            };
            let nodes: Vec<Vec<u8>> = blocks(vectors).into_iter().filter(node).map(sized).collect();
            let mut all: Vec<Vec<u8>> = nodes.iter().take(100).cloned().collect();
            all.extend(files(vectors, ".car").into_iter().filter_map(|file| {
                let slice = read_slice(file.into(), CarLimits::default()).ok()?;
                let head = Commit::decode(slice.block(slice.roots.first()?).ok()?).ok()?;
                let root = slice.block(&head.data).ok()?.to_vec();
                let others = slice.blocks.values().map(|b| b.to_vec()).filter(|b| node(b) && *b != root);
                Some(others.chain([root.clone()]).flat_map(sized).collect())
            }));
            all
        }
        "pds_commit" => blocks(vectors).into_iter().filter(commit).collect(),
        "pds_frame" => files(&vectors.join("reference-pds-0.5.35/frames"), ".bin"),
        "pds_text" => {
            let keys = files(&vectors.join("atproto-interop-tests/mst"), "example_keys.txt");
            let keys = keys.iter().flat_map(|file| file.split(|b| *b == b'\n').map(<[u8]>::to_vec)).take(40);
            let texts = [
                "com.example.note/3jui7kd54zh2y",
                "io.atcr.manifest/sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                "com.example.note/..",
                "cursor=12&limit=50&reverse=true",
                "cursor=-1&limit=1001&did=did:web:a.example&did=did:plc:ewvi7nxzyoun6zhxrhs64oiz",
                "cursor=99999999999999999999&limit=%31",
                "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm",
            ];
            keys.chain(texts.map(|text| text.as_bytes().to_vec())).collect()
        }
        other => panic!("there is no target {other}"),
    }
}
