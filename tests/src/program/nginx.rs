//! nginx, with several sites in one process.

use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::{Program, free_addr};
use crate::pki::{Authority, Identity};

/// nginx with several sites, each on its own port: `/` is the site's name, `/file` is `FILE_BYTES` long.
#[derive(Debug)]
pub struct Nginx {
    program: Program,
    addrs: Vec<SocketAddr>,
}

/// A site of nginx.
#[derive(Debug, Clone)]
pub struct Site {
    name: String,
    /// Behind the address it listens at.
    listen: String,
    directives: String,
    /// The text of `/`.
    answer: String,
}

impl Site {
    /// One without anything particular.
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), listen: String::new(), directives: String::new(), answer: name.into() }
    }

    /// The same with TLS.
    #[must_use]
    pub fn secure(mut self, identity: &Identity) -> Self {
        self.listen += " ssl";
        let (chain, key) = (identity.chain_path().display(), identity.key_path().display());
        write!(self.directives, "ssl_certificate {chain}; ssl_certificate_key {key}; ").unwrap();
        self
    }

    /// The same for clients only that show a certificate of `authority`.
    #[must_use]
    pub fn for_known(mut self, authority: &Authority) -> Self {
        let path = authority.pem_path().display();
        write!(self.directives, "ssl_client_certificate {path}; ssl_verify_client on; ").unwrap();
        self
    }

    /// The same with a PROXY header before every connection; `/` says what is in it: `source:port to destination:port`.
    #[must_use]
    pub fn behind_proxy(mut self) -> Self {
        self.listen += " proxy_protocol";
        let [source, destination] =
            ["", "server_"].map(|side| format!("$proxy_protocol_{side}addr:$proxy_protocol_{side}port"));
        self.answer = format!("{source} to {destination}");
        self
    }

    fn config(&self, folder: &Path, addr: SocketAddr) -> String {
        let Self { name, listen, directives, answer } = self;
        let root = folder.join(name);
        fs::create_dir(&root).unwrap();
        let file: Vec<u8> = name.bytes().cycle().take(Nginx::FILE_BYTES).collect();
        fs::write(root.join("file"), file).unwrap();
        let root = root.display();
        format!(
            "server {{ listen {addr}{listen}; {directives}root {root}; location = / {{ return 200 \"{answer}\"; }} }}\n"
        )
    }
}

impl Nginx {
    /// Starts it with a site per name.
    pub fn start(names: &[&str]) -> Self {
        Self::start_sites(&names.iter().map(|name| Site::new(name)).collect::<Vec<_>>())
    }

    /// Starts it with these sites.
    pub fn start_sites(sites: &[Site]) -> Self {
        let folder = TempDir::with_prefix("lb-test-nginx-").unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let addrs: Vec<_> = sites.iter().map(|_| free_addr()).collect();
        let sites: String = sites.iter().zip(&addrs).map(|(site, addr)| site.config(folder.path(), *addr)).collect();
        let config = folder.path().join("nginx.conf");
        fs::write(&config, nginx_config(folder.path(), &sites)).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-c").arg(&config).arg("-p").arg(folder.path()).arg("-e").arg(folder.path().join("error.log"));
        Self { program: Program::start(folder, command, addrs[0], "TERM"), addrs }
    }

    /// The program, to be killed or stopped.
    pub fn program(&mut self) -> &mut Program {
        &mut self.program
    }

    /// Where the sites are, in the order of their names.
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// The length of `/file`.
    pub const FILE_BYTES: usize = 5_000_000;
}

fn nginx_config(folder: &Path, sites: &str) -> String {
    let folder = folder.display();
    format!(
        "daemon off; master_process off; pid {folder}/pid;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n\
         fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;\n\
         {sites} }}\n"
    )
}
