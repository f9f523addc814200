//! `berth token`: access to the admin API over the network.

use std::time::SystemTime;

use anyhow::Result;
use berth_api::tokens::{NewToken, Scope, TokenList, TokenView};
use serde_json::Value;

use crate::args::{AdminArgs, ScopeArg, Show, Token};
use crate::failure::bad_input;
use crate::output;

const HEADINGS: [&str; 5] = ["ID", "NAME", "SCOPE", "MADE", "LAST USE"];

pub(crate) async fn run(command: Token) -> Result<()> {
    match command {
        Token::Create { name, scope, show } => create(&name, scope, &show).await,
        Token::List(args) => list(&args).await,
        Token::Revoke { id, admin } => revoke(&id, &admin).await,
    }
}

async fn create(name: &str, scope: ScopeArg, show: &Show) -> Result<()> {
    let scope = match scope {
        ScopeArg::Read => Scope::Read,
        ScopeArg::Deploy => Scope::Deploy,
        ScopeArg::Admin => Scope::Admin,
    };
    let made: Value =
        show.admin.edge()?.post("/v1/tokens", &NewToken { name: name.to_owned(), scope }).await?;
    if show.json {
        return output::json(&made);
    }
    output::note!(
        "Keep it secret; it is not shown again. Give it to berth in BERTH_ADMIN_TOKEN or --admin-token-file."
    );
    Ok(output::line(made["token"].as_str().unwrap_or_default())?)
}

async fn list(args: &Show) -> Result<()> {
    let answer: Value = args.admin.edge()?.get("/v1/tokens").await?;
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
            token.scope.to_string(),
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
    admin.edge()?.delete(&format!("/v1/tokens/{id}")).await?;
    Ok(output::line(format_args!("revoked {id}"))?)
}
