use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use super::Config;
use crate::Error;

/// Writes the commented template: to a file that does not exist yet, or to standard output.
pub fn init<C: Config>(file: Option<&Path>) -> Result<(), Error> {
    // Settings without a default are marked `#:` in the template; a reader sees a plain comment.
    let text = C::TEMPLATE.replace("#:", "# ");
    let Some(path) = file else {
        return std::io::stdout()
            .write_all(text.as_bytes())
            .map_err(Error::file("standard output", "written"));
    };
    let written = OpenOptions::new().write(true).create_new(true).open(path);
    written.and_then(|mut file| file.write_all(text.as_bytes())).map_err(Error::file(path, "written"))?;
    eprintln!("{} is written; the settings that are required are marked there", path.display());
    Ok(())
}
