//! `embot token`: who may ask the plane over the network.

use super::context::Context;
use super::failure::Failure;
use super::screen::Screen;
use super::table::{Fit, table};
use crate::api::Role;
use crate::api::tokens::views::{CreateToken, NewTokenView, RevokeToken, TokenFilter, TokenView};
use crate::model::Span;

/// Make, list and take back the tokens by which the plane is asked over the network.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  embot token create ada --role admin                 for a person\n  embot token create ci --role viewer --expires 90d   for a program\n  embot token list\n  embot token revoke ci\n\nUse one from anywhere:\n  EMBOT_TOKEN=embot_... embot --plane https://plane.example:7400 --ca ca.crt status\n\nRoles: a viewer sees everything but tokens; an operator also gives everyday commands (guests, maintenance, approvals,\narm and disarm); an admin also decides what the plane decides by (modules) and who may ask it."
)]
pub struct Token {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum What {
    /// Make a token. Its secret is shown once and kept nowhere.
    #[command(
        after_help = "Examples:\n  embot token create ada --role admin\n  embot token create ci --role viewer --expires 90d --output json | jq -r .secret > ci.token"
    )]
    Create {
        /// Its name, which stands in the journal with what is done by it.
        name: String,
        /// What it allows.
        #[arg(long, value_enum)]
        role: Role,
        /// For how long, such as 90d; without it, until it is revoked.
        #[arg(long, value_name = "SPAN")]
        expires: Option<Span>,
    },
    /// List the tokens that are valid, without their secrets.
    #[command(after_help = "Examples:\n  embot token list\n  embot token list --all             with those that are over")]
    List {
        /// Those that are over, too.
        #[arg(long)]
        all: bool,
    },
    /// Take a token back, from now on.
    #[command(after_help = "Example:\n  embot token revoke ci")]
    Revoke {
        /// Its name.
        name: String,
    },
}

impl Token {
    /// Asks and shows.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        match self.what {
            What::Create { name, role, expires } => {
                let request = CreateToken { name, role, expires };
                let made: NewTokenView = client.post("/v1/commands/create_token", &request).await?;
                context.show(&made, |screen| created(&made, screen))
            }
            What::List { all } => {
                let filter = TokenFilter { all: all.then_some(true) };
                let found: Vec<TokenView> = client.find("/v1/tokens", &filter).await?;
                context.show(&found, |screen| list(&found, screen))
            }
            What::Revoke { name } => {
                let token: TokenView = client.post("/v1/commands/revoke_token", &RevokeToken { name }).await?;
                context.show(&token, |_| format!("the token {} is revoked: it is accepted no more\n", token.name))
            }
        }
    }
}

fn created(made: &NewTokenView, screen: &Screen) -> String {
    let until = made.token.expires.map_or("until it is revoked".to_owned(), |at| format!("until {}", screen.date(at)));
    format!(
        "the token {} has the role {}, {until}. It is shown only now:\n\n{}\n",
        made.token.name, made.token.role, made.secret
    )
}

fn list(tokens: &[TokenView], screen: &Screen) -> String {
    let row = |token: &TokenView| {
        let over = match (token.revoked, token.expires) {
            (Some(at), _) | (None, Some(at)) => screen.date(at),
            (None, None) => "never".to_owned(),
        };
        vec![
            token.name.clone(),
            token.role.to_string(),
            token.state.clone(),
            over,
            format!("{} by {}", screen.date(token.created), token.by),
        ]
    };
    let columns = [("TOKEN", Fit::Keep), ("ROLE", Fit::Keep), ("STATE", Fit::State), ("ENDS", Fit::Keep), ("MADE", Fit::Cut)];
    let text = table(&columns, tokens.iter().map(row).collect(), screen);
    if text.is_empty() { "no token is valid (`embot token create` makes one)\n".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::stamp::Stamp;
    use crate::api::testing::NOW;
    use crate::cli::screen::plain;

    #[test]
    fn tokens_as_people_see_them() {
        let token = |name: &str, role: Role, state: &str| TokenView {
            name: name.to_owned(),
            role,
            state: state.to_owned(),
            created: NOW.into(),
            by: "ada".to_owned(),
            expires: None,
            revoked: None,
        };
        let ends: Stamp = (NOW + Span::hours(24)).into();
        let ci = TokenView { expires: Some(ends), ..token("ci", Role::Viewer, "valid") };
        let old = TokenView { revoked: Some(NOW.into()), ..token("old", Role::Operator, "revoked") };
        let texts = [
            list(&[token("ada", Role::Admin, "valid"), ci.clone(), old], &plain(80)),
            list(&[], &plain(80)),
            created(&NewTokenView { token: ci, secret: "embot_0123".to_owned() }, &plain(80)),
            created(&NewTokenView { token: token("ada", Role::Admin, "valid"), secret: "embot_0123".to_owned() }, &plain(80)),
        ];
        insta::assert_snapshot!(texts.join("---\n"));
    }
}
