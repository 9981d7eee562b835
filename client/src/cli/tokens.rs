//! `piston token`: who may come in over the network.

use anyhow::Result;
use serde_json::json;

use crate::Client;
use crate::api::{NewToken, Role};

use super::exit::Exit;
use super::flags::{CreateToken, Token};
use super::render::{Screen, Table};

/// Performs one command of the group.
pub(super) async fn perform(client: &Client, command: Token, screen: &Screen) -> Result<Exit> {
    match command {
        Token::Create(flags) => create(client, flags, screen).await?,
        Token::List => list(client, screen).await?,
        Token::Revoke { id } => {
            client.revoke_token(&id).await?;
            screen.show(&json!({ "revoked": id }), |_| format!("revoked {id}"))?;
        }
    }
    Ok(Exit::Done)
}

/// Prints the secret alone, so that it can go to a file or a variable as it is.
async fn create(client: &Client, flags: CreateToken, screen: &Screen) -> Result<()> {
    let CreateToken {
        role,
        name,
        rate,
        concurrency,
    } = flags;
    let token = NewToken {
        name,
        role,
        rate,
        concurrency,
    };
    let created = client.create_token(&token).await?;
    screen.note(format!(
        "token {} is made; this is its secret, which is not told again",
        created.token.id
    ));
    screen.show(&created, |created| created.secret.clone())?;
    Ok(())
}

async fn list(client: &Client, screen: &Screen) -> Result<()> {
    let tokens = client.tokens().await?;
    screen.show(&tokens, |tokens| {
        if tokens.is_empty() {
            return "there are no tokens".to_owned();
        }
        let mut table = Table::new(["TOKEN", "NAME", "ROLE", "RATE", "JOBS AT ONCE"]);
        for token in tokens {
            let role = match token.role {
                Role::Execute => "execute",
                Role::Admin => "admin",
            };
            let or_any = |text: Option<String>| text.unwrap_or_else(|| "any".to_owned());
            table.row(&[
                token.id.to_string(),
                token.name.clone(),
                role.to_owned(),
                or_any(token.rate.map(|rate| rate.to_string())),
                or_any(token.concurrency.map(|jobs| jobs.to_string())),
            ]);
        }
        screen.table(&table)
    })?;
    Ok(())
}
