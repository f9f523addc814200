//! `berth token`: who may use the admin API over the network.

use std::time::SystemTime;

use anyhow::Result;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::admin::Admin;
use crate::args::{AdminArgs, ScopeArg, Show, Token};
use crate::failure::bad_input;
use crate::output;

const HEADINGS: [&str; 5] = ["ID", "NAME", "SCOPE", "MADE", "LAST USE"];

#[derive(Deserialize)]
struct TokenList {
    tokens: Vec<TokenView>,
}

#[derive(Deserialize)]
struct TokenView {
    id: String,
    name: String,
    scope: String,
    created_ms: u64,
    last_used_ms: Option<u64>,
}

pub(crate) async fn run(command: Token) -> Result<()> {
    match command {
        Token::Create { name, scope, show } => create(&name, scope, &show).await,
        Token::List(args) => list(&args).await,
        Token::Revoke { id, admin } => revoke(&id, &admin).await,
    }
}

async fn create(name: &str, scope: ScopeArg, show: &Show) -> Result<()> {
    let scope = match scope {
        ScopeArg::Read => "read",
        ScopeArg::Deploy => "deploy",
        ScopeArg::Admin => "admin",
    };
    let made: Value =
        Admin::find(&show.admin)?.post("/v1/tokens", &json!({ "name": name, "scope": scope })).await?;
    if show.json {
        return output::json(&made);
    }
    eprintln!(
        "Keep it secret; it is not shown again. Give it to berth in BERTH_ADMIN_TOKEN or --admin-token-file."
    );
    Ok(output::line(made["token"].as_str().unwrap_or_default())?)
}

async fn list(args: &Show) -> Result<()> {
    let answer: Value = Admin::find(&args.admin)?.get("/v1/tokens").await?;
    if args.json {
        return output::json(&answer);
    }
    let list: TokenList = serde_json::from_value(answer)?;
    let now = SystemTime::now();
    let row = |token: &TokenView| {
        let used = token.last_used_ms.map_or_else(|| "never".to_owned(), |ms| output::ago(ms, now));
        vec![
            token.id.clone(),
            token.name.clone(),
            token.scope.clone(),
            output::ago(token.created_ms, now),
            used,
        ]
    };
    Ok(output::table(&HEADINGS, list.tokens.iter().map(row).collect())?)
}

async fn revoke(id: &str, admin: &AdminArgs) -> Result<()> {
    if id.len() != 16 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(bad_input(anyhow::anyhow!(
            "{id:?} is not the ID of a token, which `berth token list` shows"
        )));
    }
    Admin::find(admin)?.delete(&format!("/v1/tokens/{id}")).await?;
    Ok(output::line(format_args!("revoked {id}"))?)
}
