//! Writes the seeds of every target to `corpus/<target>/`, where `cargo fuzz run <target>` finds them.

use std::path::Path;

use atcr_fuzz::{requests, seeds, sign_in};

fn main() -> std::io::Result<()> {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR"));
    let vectors = fuzz.join("../atcr-pds/tests/vectors");
    let repos = seeds::TARGETS.map(|target| (target, seeds::seeds(target, &vectors)));
    let registry = requests::TARGETS.map(|target| (target, requests::seeds(target)));
    let people = sign_in::TARGETS.map(|target| (target, sign_in::seeds(target)));
    for (target, seeds) in repos.into_iter().chain(registry).chain(people) {
        let folder = fuzz.join("corpus").join(target);
        std::fs::create_dir_all(&folder)?;
        for (n, seed) in seeds.iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{n:04}")), seed)?;
        }
        println!("{target}: {} seeds", seeds.len());
    }
    Ok(())
}
