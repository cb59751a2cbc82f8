//! What the bot may on a server, by its roles. <https://discord.com/developers/docs/topics/permissions>

use serde::Deserialize;
use serenity::all::Permissions;

/// What posting, changing and finding messages takes.
const NEEDED: [(Permissions, &str); 4] = [
    (Permissions::VIEW_CHANNEL, "View Channel"),
    (Permissions::SEND_MESSAGES, "Send Messages"),
    (Permissions::EMBED_LINKS, "Embed Links"),
    (Permissions::READ_MESSAGE_HISTORY, "Read Message History"),
];

/// A server with its roles. <https://discord.com/developers/docs/resources/guild#guild-object>
#[derive(Deserialize)]
pub(super) struct Server {
    id: String,
    roles: Vec<Role>,
}

#[derive(Deserialize)]
struct Role {
    id: String,
    permissions: Permissions,
}

/// The roles of one member.
#[derive(Deserialize)]
pub(super) struct Roles {
    roles: Vec<String>,
}

impl Server {
    /// The names of what a member lacks that the bot needs. What single channels grant or take is not looked at: a post
    /// that is refused there says so itself.
    pub fn missing(&self, member: &Roles) -> Vec<&'static str> {
        // Everybody has the role that has the server's own id.
        let theirs = self
            .roles
            .iter()
            .filter(|role| role.id == self.id || member.roles.contains(&role.id));
        let granted = theirs.fold(Permissions::empty(), |granted, role| granted | role.permissions);
        if granted.contains(Permissions::ADMINISTRATOR) {
            return Vec::new();
        }
        let lacking = NEEDED.iter().filter(|(needed, _)| !granted.contains(*needed));
        lacking.map(|(_, name)| *name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_everybody_may_and_the_bots_roles_add_up() {
        let every = NEEDED
            .iter()
            .fold(Permissions::empty(), |all, (needed, _)| all | *needed);
        let names: Vec<&str> = NEEDED.iter().map(|(_, name)| *name).collect();
        let (view, rest) = (Permissions::VIEW_CHANNEL, every - Permissions::VIEW_CHANNEL);
        let none = Permissions::empty();
        for (everyone, own, others, missing) in [
            (every, none, none, &[][..]),
            (none, every, none, &[]),
            (view, rest, none, &[]),
            (none, Permissions::ADMINISTRATOR, none, &[]),
            (view, none, every, &names[1..]),
            (none, none, Permissions::ADMINISTRATOR, &names),
            (rest, none, none, &names[..1]),
        ] {
            let role =
                |id: &str, permissions: Permissions| json!({"id": id, "permissions": permissions.bits().to_string()});
            let server = json!({"id": "1", "roles": [role("1", everyone), role("2", own), role("3", others)]});
            let server: Server = serde_json::from_value(server).unwrap();
            let member: Roles = serde_json::from_value(json!({"roles": ["2"]})).unwrap();
            assert_eq!(server.missing(&member), missing, "{everyone:?} {own:?}");
        }
    }
}
