//! The credentials that Docker, Podman and similar tools keep for registries: in their configuration files, or with a
//! credential helper named there. Only read, and only for one registry at a time.

use std::env;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use berth_api::registries::{Credentials, Password};
use berth_common::image::{DOCKER_HUB, Reference, Registry};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Largest file, and largest answer of a helper, in bytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;
/// How long a helper may take: it may ask the user to unlock a keyring.
const HELPER_TIMEOUT: Duration = Duration::from_secs(60);
/// The key of Docker Hub in these files.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";
/// The user name with which a helper says that its secret is an identity token, and not a password; so does the edge.
const TOKEN_USER: &str = "<token>";

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    auths: Map<String, Value>,
    creds_store: Option<String>,
    cred_helpers: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: String,
    secret: String,
}

/// What the user's files have for an image's registry.
pub(crate) async fn credentials(reference: &Reference) -> Result<Option<Credentials>> {
    let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    for file in locations(variable) {
        let found = in_file(&file, reference).await;
        if let Some(found) = found.with_context(|| format!("{} cannot be used", file.display()))? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The candidate files, those named by variables before the default ones.
fn locations(variable: impl Fn(&str) -> Option<PathBuf>) -> Vec<PathBuf> {
    let docker = variable("DOCKER_CONFIG").or_else(|| Some(variable("HOME")?.join(".docker")));
    let usual = [
        variable("XDG_RUNTIME_DIR").map(|directory| directory.join("containers/auth.json")),
        docker.map(|directory| directory.join("config.json")),
    ];
    [variable("REGISTRY_AUTH_FILE")].into_iter().chain(usual).flatten().collect()
}

async fn in_file(file: &Path, reference: &Reference) -> Result<Option<Credentials>> {
    let Some(config) = read(file)? else { return Ok(None) };
    let keys = keys(reference);
    if let Some((key, helper)) =
        keys.iter().find_map(|key| Some((key, config.cred_helpers.get(key)?.as_str()?)))
    {
        return ask(helper, key).await;
    }
    if let Some(found) = in_auths(&config.auths, &keys)? {
        return Ok(Some(found));
    }
    let Some(helper) = &config.creds_store else { return Ok(None) };
    for key in keys.iter().filter(|key| is_host(key, &reference.registry)) {
        if let Some(found) = ask(helper, key).await? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn read(file: &Path) -> Result<Option<Config>> {
    let opened = match File::open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut bytes = Vec::new();
    opened.take(MAX_CONFIG_BYTES + 1).read_to_end(&mut bytes)?;
    ensure!(u64::try_from(bytes.len())? <= MAX_CONFIG_BYTES, "it has more than {MAX_CONFIG_BYTES} bytes");
    // The error would show what is in it.
    serde_json::from_slice(&bytes).map(Some).or_else(|_| bail!("it is not what it should be"))
}

/// The keys under which an image's credentials may be found, the most specific first: prefixes of its repository, then
/// its registry.
fn keys(reference: &Reference) -> Vec<String> {
    let registry = reference.registry.as_str();
    let mut keys = Vec::new();
    let mut path = format!("{registry}/{}", reference.image.repository);
    while let Some((parent, _)) = path.rsplit_once('/') {
        let parent = parent.to_owned();
        keys.push(std::mem::replace(&mut path, parent));
    }
    let hub = [DOCKER_HUB.0, DOCKER_HUB.1, "index.docker.io"];
    if hub.contains(&registry) {
        keys.push(DOCKER_HUB_KEY.to_owned());
        keys.extend(hub.map(str::to_owned));
    } else {
        keys.push(registry.to_owned());
        for ending in ["", "/", "/v1/", "/v2/"] {
            keys.push(format!("https://{registry}{ending}"));
        }
    }
    keys
}

fn is_host(key: &str, registry: &Registry) -> bool {
    key == DOCKER_HUB_KEY || key == registry.as_str() || *key == format!("https://{registry}")
}

fn in_auths(auths: &Map<String, Value>, keys: &[String]) -> Result<Option<Credentials>> {
    for entry in keys.iter().filter_map(|key| auths.get(key)) {
        let text = |name: &str| entry[name].as_str().filter(|text| !text.is_empty());
        // Before `auth`, which has only a user's name then.
        if let Some(token) = text("identitytoken") {
            return Ok(Some(credentials_of(TOKEN_USER, token)));
        }
        if let Some(auth) = text("auth") {
            return decode(auth).map(Some);
        }
        if let (Some(username), Some(password)) = (text("username"), text("password")) {
            return Ok(Some(credentials_of(username, password)));
        }
        // An empty entry means that a credential helper has the login.
    }
    Ok(None)
}

fn credentials_of(username: &str, password: &str) -> Credentials {
    Credentials { username: username.to_owned(), password: Password::new(password.to_owned()) }
}

fn decode(auth: &str) -> Result<Credentials> {
    let bytes = BASE64_STANDARD.decode(auth).ok();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = text.as_deref().and_then(|text| text.split_once(':'));
    let (username, password) = pair.context("an entry of a registry is not what it should be")?;
    let password = password.trim_end_matches('\0');
    Ok(credentials_of(username, password))
}

/// Asks a helper. No stored credentials is not an error.
async fn ask(helper: &str, server: &str) -> Result<Option<Credentials>> {
    let plain = helper.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    ensure!(plain && !helper.is_empty(), "it names a helper {helper:?}, which can be none");
    ask_program(&format!("docker-credential-{helper}"), server).await
}

async fn ask_program(program: &str, server: &str) -> Result<Option<Credentials>> {
    let answer = tokio::time::timeout(HELPER_TIMEOUT, run(program, server)).await;
    let (known, answer) = answer.with_context(|| format!("{program}: no answer in {HELPER_TIMEOUT:?}"))??;
    if !known {
        let reply = String::from_utf8_lossy(&answer);
        ensure!(reply.contains("not found"), "{program} did not succeed: {}", reply.trim());
        return Ok(None);
    }
    // The error would show what is in it.
    let Ok(HelperAnswer { username, secret }) = serde_json::from_slice(&answer) else {
        bail!("{program} does not answer as it should")
    };
    Ok(Some(credentials_of(&username, &secret)))
}

async fn run(program: &str, server: &str) -> Result<(bool, Vec<u8>)> {
    let mut command = Command::new(program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn().with_context(|| format!("cannot run {program}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(server.as_bytes()).await?;
    }
    let mut answer = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        let mut stdout = tokio::io::AsyncReadExt::take(stdout, MAX_CONFIG_BYTES);
        tokio::io::AsyncReadExt::read_to_end(&mut stdout, &mut answer).await?;
    }
    Ok((child.wait().await?.success(), answer))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn of(text: &str) -> Reference {
        text.parse().unwrap()
    }

    async fn found(config: &str, reference: &str) -> Result<Option<String>> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.json");
        fs::write(&file, config).unwrap();
        let found = in_file(&file, &of(reference)).await?;
        Ok(found.map(|found| format!("{}/{}", found.username, found.password.expose())))
    }

    #[tokio::test]
    async fn entries_are_found_by_all_their_names() {
        let auth = BASE64_STANDARD.encode("me:a:b");
        for (key, reference) in [
            ("https://index.docker.io/v1/", "alpine"),
            ("docker.io", "me/app:1"),
            ("r.example", "r.example/a/b"),
            ("https://r.example", "r.example/a/b"),
            ("https://r.example/v1/", "r.example/a/b"),
            ("r.example:5000", "r.example:5000/a"),
            ("r.example/a", "r.example/a/b"),
        ] {
            let config = format!(r#"{{"auths":{{"{key}":{{"auth":"{auth}"}},"other.example":{{}}}}}}"#);
            assert_eq!(found(&config, reference).await.unwrap().as_deref(), Some("me/a:b"), "{key}");
        }
        let config = format!(r#"{{"auths":{{"r.example":{{"auth":"{auth}"}}}}}}"#);
        assert_eq!(found(&config, "x.example/a").await.unwrap(), None);
        let auth = BASE64_STANDARD.encode("00000000-0000-0000-0000-000000000000:");
        let identity = format!(r#"{{"auths":{{"r.example":{{"auth":"{auth}","identitytoken":"t"}}}}}}"#);
        assert_eq!(found(&identity, "r.example/a").await.unwrap().as_deref(), Some("<token>/t"));
        let plain = r#"{"auths":{"r.example":{"username":"u","password":"p"}}}"#;
        assert_eq!(found(plain, "r.example/a").await.unwrap().as_deref(), Some("u/p"));
    }

    #[tokio::test]
    async fn the_most_special_entry_wins() {
        let auth = |text: &str| BASE64_STANDARD.encode(text);
        let config = format!(
            r#"{{"auths":{{"r.example":{{"auth":"{}"}},"r.example/a/b":{{"auth":"{}"}}}}}}"#,
            auth("all:1"),
            auth("b:2")
        );
        assert_eq!(found(&config, "r.example/a/b/c").await.unwrap().as_deref(), Some("b/2"));
        assert_eq!(found(&config, "r.example/a/c").await.unwrap().as_deref(), Some("all/1"));
    }

    #[tokio::test]
    async fn errors_do_not_show_the_content_of_files() {
        for config in [r#"{"auths":{"r.example":{"auth":"c2VjcmV0"}}}"#, r#"{"auths":"secret"}"#, "secret"] {
            let error = format!("{:#}", found(config, "r.example/a").await.unwrap_err());
            assert!(!error.contains("secret") && !error.contains("c2Vj"), "{error}");
        }
        let helper = r#"{"credHelpers":{"r.example":"../../bin/sh"}}"#;
        assert!(found(helper, "r.example/a").await.unwrap_err().to_string().contains("can be none"));
        let shown = format!("{:?}", credentials_of("me", "secret"));
        assert!(shown.contains("me") && !shown.contains("secret"));
    }

    #[tokio::test]
    async fn helpers_are_asked_by_their_rules() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let ask = async |script: &str| {
            let program = dir.path().join("helper");
            fs::write(&program, format!("#!/bin/sh\nread server\n{script}\n")).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
            ask_program(program.to_str().unwrap(), "r.example\n").await
        };
        let found = ask(r#"echo "{\"ServerURL\":\"$server\",\"Username\":\"me\",\"Secret\":\"$server!\"}""#);
        let expected = credentials_of("me", "r.example!");
        assert_eq!(found.await.unwrap(), Some(expected));
        assert_eq!(ask("echo 'credentials not found in native keychain'; exit 1").await.unwrap(), None);
        assert!(ask("echo locked; exit 1").await.unwrap_err().to_string().contains("locked"));
        let wrong = ask("echo secret").await.unwrap_err().to_string();
        assert!(!wrong.contains("secret"), "{wrong}");
        let token = ask(r#"echo '{"Username":"<token>","Secret":"secret"}'"#).await.unwrap();
        assert_eq!(token, Some(credentials_of("<token>", "secret")));
    }

    #[test]
    fn named_places_come_first() {
        let all = locations(|name| Some(PathBuf::from(format!("/{name}"))));
        let expected =
            ["/REGISTRY_AUTH_FILE", "/XDG_RUNTIME_DIR/containers/auth.json", "/DOCKER_CONFIG/config.json"];
        assert_eq!(all, expected.map(PathBuf::from));
        let home = locations(|name| (name == "HOME").then(|| "/home/me".into()));
        assert_eq!(home, [PathBuf::from("/home/me/.docker/config.json")]);
    }
}
