//! `berth token`: access to the admin API over the network.

use std::time::SystemTime;

use anyhow::{Context, Result, anyhow};
use berth_api::tokens::{NewToken, Scope, TokenList, TokenView};
use serde_json::Value;

use crate::args::{AdminArgs, ScopeArg, Show, Token};
use crate::failure::bad_input;
use crate::{ids, output};

const HEADINGS: [&str; 5] = ["ID", "NAME", "SCOPE", "MADE", "LAST USE"];

pub(crate) async fn run(command: Token) -> Result<()> {
    match command {
        Token::Create { name, scope, show } => create(&name, scope, &show).await,
        Token::List(args) => list(&args).await,
        Token::Revoke { token, dry_run, admin } => revoke(&token, dry_run, &admin).await,
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

async fn revoke(text: &str, dry_run: bool, admin: &AdminArgs) -> Result<()> {
    let admin = admin.edge()?;
    let list: TokenList = admin.get("/v1/tokens").await?;
    let TokenView { id, name, scope, .. } = find(&list.tokens, text)?;
    if dry_run {
        return Ok(output::line(format_args!("would be revoked: {id} ({name}, {scope})"))?);
    }
    admin.delete(&format!("/v1/tokens/{id}")).await?;
    Ok(output::line(format_args!("revoked {id} ({name})"))?)
}

/// The token with this name, or this id or its beginning. A name comes first, and one that several have names none.
fn find<'a>(tokens: &'a [TokenView], text: &str) -> Result<&'a TokenView> {
    let mut named = tokens.iter().filter(|token| token.name == text || token.id == text);
    match (named.next(), named.count()) {
        (Some(only), 0) => return Ok(only),
        (Some(_), _) => {
            return Err(bad_input(anyhow!(
                "several tokens are called {text}: `berth token list` shows their IDs"
            )));
        }
        (None, _) => {}
    }
    let known: Vec<String> = tokens.iter().map(|token| token.id.clone()).collect();
    let id = ids::among("token", text, &known)?;
    tokens.iter().find(|token| token.id == id).context("the token is gone")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(id: &str, name: &str) -> TokenView {
        TokenView {
            id: id.to_owned(),
            name: name.to_owned(),
            scope: Scope::Read,
            created_ms: 0,
            last_used_ms: None,
        }
    }

    #[test]
    fn a_token_has_a_name_and_an_id() {
        let tokens = [
            token("0011223344556677", "ci"),
            token("0011223344556688", "0011"),
            token("aabb223344556688", "ci"),
        ];
        assert_eq!(find(&tokens, "0011223344556677").unwrap().name, "ci");
        assert_eq!(find(&tokens, "aabb").unwrap().id, "aabb223344556688");
        assert_eq!(find(&tokens, "0011").unwrap().id, "0011223344556688");
        for bad in ["ci", "00112233445566", "other", ""] {
            assert!(find(&tokens, bad).is_err(), "{bad}");
        }
    }
}
