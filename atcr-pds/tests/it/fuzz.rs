//! The fuzz targets on their seeds, on a stable compiler: every seed, every seed cut short, and seeds with a byte
//! changed.

#[allow(unreachable_pub, reason = "at home it is a library")]
#[path = "../../../fuzz/src/pds.rs"]
mod pds;
#[allow(unreachable_pub, reason = "at home it is a library")]
#[path = "../../../fuzz/src/seeds.rs"]
mod seeds;

use std::path::Path;

use seeds::TARGETS;

fn run(target: &str, input: &[u8]) {
    match target {
        "pds_cbor" => pds::cbor(input),
        "pds_json" => pds::json(input),
        "pds_car" => pds::car(input),
        "pds_mst_node" => pds::mst_node(input),
        "pds_commit" => pds::commit(input),
        "pds_frame" => pds::frame(input),
        "pds_text" => pds::text(input),
        other => panic!("there is no target {other}"),
    }
}

#[test]
fn every_seed_and_its_neighbours_keep_the_promises() {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    for target in TARGETS {
        let seeds = seeds::seeds(target, &vectors);
        assert!(seeds.len() >= 5, "{target} has {} seeds", seeds.len());
        for (n, seed) in seeds.iter().enumerate() {
            run(target, seed);
            // As many neighbours as a test may take time for, in other places for each seed.
            if seed.len() < 20_000 {
                for step in 0..8 {
                    let at = (n * 31 + step * 97) % seed.len().max(1);
                    run(target, &seed[..at]);
                    let mut changed = seed.clone();
                    if let Some(byte) = changed.get_mut(at) {
                        *byte ^= 1 << step;
                        run(target, &changed);
                    }
                }
            }
        }
    }
}

#[test]
fn every_target_of_the_folder_has_its_program() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    for target in TARGETS {
        assert!(fuzz.join(format!("fuzz_targets/{target}.rs")).exists(), "{target}");
        assert!(manifest.contains(&format!("name = \"{target}\"")), "{target}");
    }
}
