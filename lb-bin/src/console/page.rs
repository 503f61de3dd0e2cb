//! The files of the console's page, as they are in the program.

/// A file of the page.
#[derive(Debug)]
pub(super) struct File {
    /// Where it is asked for, without the slash: `console.css`.
    pub(super) name: &'static str,
    pub(super) media_type: &'static str,
    pub(super) content: &'static str,
}

macro_rules! files {
    ($($media_type:literal: $($name:literal)*;)*) => {
        [$($(File { name: $name, media_type: $media_type, content: include_str!(concat!("page/", $name)) },)*)*]
    };
}

/// All of them. `index.html` is the page itself.
pub(super) const FILES: [File; 32] = files! {
    "text/html; charset=utf-8": "index.html";
    "text/css; charset=utf-8": "console.css";
    "image/svg+xml": "icon.svg";
    "text/javascript; charset=utf-8":
        "api.js" "app.js" "certificate_dialog.js" "certificates.js" "changes.js" "check_fields.js" "dialog.js" "difference.js" "dom.js" "field.js"
        "frontend_card.js" "frontend_dialog.js" "frontend_fields.js" "frontends.js" "live.js" "login.js" "plots.js"
        "revisions.js" "samples.js" "server_dialog.js" "server_editor.js" "server_fields.js" "server_row.js" "server_state.js" "server_table.js"
        "setting.js" "status.js" "text.js" "toast.js";
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_of_the_folder_is_in_the_program() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/console/page");
        let there: BTreeSet<_> =
            std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        assert_eq!(FILES.iter().map(|file| file.name.to_owned()).collect::<BTreeSet<_>>(), there);
    }

    #[test]
    fn nothing_names_another_host() {
        for File { name, content, .. } in FILES {
            let foreign = content.matches("//").count() - content.matches("// ").count();
            let own = content.matches("http://www.w3.org/2000/svg").count();
            assert_eq!(foreign, own, "{name} names a host, or has a comment that does not begin with a space");
        }
    }
}
