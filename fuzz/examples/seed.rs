//! Writes the seeds of every target to `corpus/<target>/`, where `cargo fuzz run <target>` finds them.

use std::path::Path;

use atcr_fuzz::seeds::{TARGETS, seeds};

fn main() -> std::io::Result<()> {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR"));
    for target in TARGETS {
        let folder = fuzz.join("corpus").join(target);
        std::fs::create_dir_all(&folder)?;
        let seeds = seeds(target, &fuzz.join("../atcr-pds/tests/vectors"));
        for (n, seed) in seeds.iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{n:04}")), seed)?;
        }
        println!("{target}: {} seeds", seeds.len());
    }
    Ok(())
}
