use super::*;

fn context(text: &str) -> Context {
    Context::parse(text, Some("/home/jo".as_ref())).unwrap()
}

fn merged(global: &Global, environment: &Environment, context: Context) -> Connect {
    global.merge(environment, context).unwrap().connect
}

#[test]
fn the_definition_holds_together() {
    let tree = <Cli as clap::CommandFactory>::command();
    tree.clone().debug_assert();

    // An argument of a verb with the id of a global one (its field's name) panics, but not before that verb is typed.
    let global: Vec<_> = tree.get_arguments().map(clap::Arg::get_id).collect();
    for verb in tree.get_subcommands() {
        let shadow = verb.get_arguments().map(clap::Arg::get_id).find(|id| global.contains(id));
        assert_eq!(shadow, None, "{}", verb.get_name());
    }
}

#[test]
fn a_servers_list_is_split_and_may_not_be_empty() {
    let named = |servers: &str| Global { server: Some(servers.into()), ..Global::default() };
    let none = Environment::default();

    assert_eq!(merged(&Global::default(), &none, Context::default()).servers, [DEFAULT_SERVER]);
    assert_eq!(merged(&named("a:1, b:2,"), &none, Context::default()).servers, ["a:1", "b:2"]);
    assert!(named(" , ").merge(&none, Context::default()).is_err());
}

#[test]
fn credentials_come_from_the_flag_the_url_the_environment_the_context_in_that_order() {
    let all = r#"{"url": "nats://context", "user": "of", "password": "context"}"#;
    let environment = Environment { token: Some("environment".into()), ..Environment::default() };
    let by_url = Global { server: Some("nats://j%40o:p%3aw@host".into()), ..Global::default() };
    let by_flag = Global { creds: Some("flag.creds".into()), server: by_url.server.clone(), ..Global::default() };

    let credentials = |global: &Global, environment: &Environment| {
        let connect = merged(global, environment, context(all));
        match connect.credentials {
            Credentials::File(file) => file.display().to_string(),
            Credentials::User(user, password) => format!("{user} {password}"),
            Credentials::PasswordFile(user, file) => format!("{user} in {}", file.display()),
            Credentials::Token(token) => token,
            Credentials::TokenFile(file) => file.display().to_string(),
            _ => "none".into(),
        }
    };
    assert_eq!(credentials(&by_flag, &environment), "flag.creds");
    assert_eq!(credentials(&by_url, &environment), "j@o p:w");
    assert_eq!(credentials(&Global::default(), &environment), "environment");
    assert_eq!(credentials(&Global::default(), &Environment::default()), "of context");

    let by_name = || Global { user: Some("jo".into()), ..Global::default() };
    let secret = || Environment { user: Some("al".into()), password: Some("secret".into()), ..Environment::default() };
    let file = || Environment { password_file: Some("env".into()), ..secret() };
    assert_eq!(credentials(&by_name(), &secret()), "jo secret");
    assert_eq!(credentials(&by_name(), &file()), "jo in env");
    assert_eq!(credentials(&Global::default(), &file()), "al in env");
    assert_eq!(credentials(&Global { password_file: Some("flag".into()), ..by_name() }, &file()), "jo in flag");
    assert_eq!(
        credentials(&Global { password_file: Some("flag".into()), ..Global::default() }, &secret()),
        "al in flag"
    );
    assert_eq!(credentials(&Global { token_file: Some("token".into()), ..Global::default() }, &secret()), "token");
    let nobody = Global { password_file: Some("flag".into()), ..Global::default() };
    assert!(nobody.merge(&Environment::default(), Context::default()).is_err());
}

#[test]
fn domain_and_inboxes_are_those_of_the_flags_then_of_the_context_and_stay_within_a_subject() {
    let of_context = || context(r#"{"jetstream_domain": "hub", "inbox_prefix": "_INBOX_jo"}"#);
    let none = Environment::default();
    let flags = Global { js_domain: Some("edge".into()), inbox_prefix: Some("_IN.jo".into()), ..Global::default() };

    let connect = merged(&Global::default(), &none, of_context());
    assert_eq!((connect.domain.as_deref(), connect.inbox_prefix.as_deref()), (Some("hub"), Some("_INBOX_jo")));
    let connect = merged(&flags, &none, of_context());
    assert_eq!((connect.domain.as_deref(), connect.inbox_prefix.as_deref()), (Some("edge"), Some("_IN.jo")));
    for bad in ["", ">", "a.*", "a b", "a\r\nPUB x 0", "a.", ".a", "a..b"] {
        let global = Global { inbox_prefix: Some(bad.into()), ..Global::default() };
        assert!(global.merge(&none, Context::default()).is_err(), "{bad:?}");
    }
}

#[test]
fn a_certificate_is_never_paired_with_the_key_of_another_source() {
    let global = Global { tls_cert: Some("flag.pem".into()), ..Global::default() };
    let environment = Environment { tls_key: Some("environment.key".into()), ..Environment::default() };

    let connect = merged(&global, &environment, context(r#"{"cert": "~/c.pem", "key": "file:///k.pem"}"#));

    assert_eq!(connect.tls_client, Some(("/home/jo/c.pem".into(), "/k.pem".into())));
}

#[test]
fn a_context_that_cannot_be_followed_is_refused_not_passed_over() {
    for text in [r#"{"nsc": "nsc://o/a/u"}"#, r#"{"creds": "op://vault/item"}"#, r#"{"url": 4222}"#, "nats://"] {
        assert!(Context::parse(text, None).is_err(), "{text}");
    }
    let context = context(r#"{"description": "", "url": "", "creds": "", "nsc": "", "color_scheme": "x"}"#);
    assert_eq!(merged(&Global::default(), &Environment::default(), context).servers, [DEFAULT_SERVER]);
}

#[test]
fn the_secrets_of_a_context_that_nobody_named_go_to_its_own_server_only() {
    let config = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(config.path().join("nats/context")).unwrap();
    std::fs::write(config.path().join("nats/context.txt"), "prod\n").unwrap();
    let prod = r#"{"url": "nats://prod", "token": "secret", "ca": "/prod.pem"}"#;
    std::fs::write(config.path().join("nats/context/prod.json"), prod).unwrap();
    let environment = || Environment { config_home: Some(config.path().into()), ..Environment::default() };
    let reached = |global: Global, environment: Environment| {
        let connect = global.target(&environment).unwrap().connect;
        (connect.shown(), matches!(connect.credentials, Credentials::Token(_)), connect.tls_ca.is_some())
    };
    let dev = || Some("nats://dev".to_owned());
    let named = || Global { context: Some("prod".into()), server: dev(), ..Global::default() };

    assert_eq!(reached(Global::default(), environment()), ("nats://prod".into(), true, true));
    assert_eq!(
        reached(Global { server: dev(), ..Global::default() }, environment()),
        ("nats://dev".into(), false, false)
    );
    assert_eq!(
        reached(Global::default(), Environment { server: dev(), ..environment() }),
        ("nats://dev".into(), false, false)
    );
    assert_eq!(reached(named(), environment()), ("nats://dev".into(), true, true));
}

#[test]
fn a_context_that_is_typed_is_above_the_environment_and_below_the_other_flags() {
    let all =
        r#"{"url": "nats://prod", "user": "of", "password": "context", "ca": "/c.pem", "cert": "/c", "key": "/k"}"#;
    let environment = || Environment {
        server: Some("nats://env:secret@elsewhere".into()),
        token: Some("environment".into()),
        tls_ca: Some("/env.pem".into()),
        tls_cert: Some("/env.cert".into()),
        tls_key: Some("/env.key".into()),
        ..Environment::default()
    };
    let typed = || Global { context: Some("prod".into()), ..Global::default() };
    let said = |global: &Global, text: &str| {
        let connect = merged(global, &environment(), context(text));
        let user = match connect.credentials {
            Credentials::User(user, password) => format!("{user} {password}"),
            Credentials::Token(token) => token,
            _ => "none".into(),
        };
        (connect.servers[0].clone(), user, connect.tls_ca.unwrap().display().to_string(), connect.tls_client.unwrap().0)
    };
    let told = |server: &str, user: &str, ca: &str, cert: &str| (server.into(), user.into(), ca.into(), cert.into());

    assert_eq!(said(&typed(), all), told("nats://prod", "of context", "/c.pem", "/c"));
    // What it does not say is left to the environment.
    let elsewhere = "nats://env:secret@elsewhere";
    assert_eq!(said(&typed(), r#"{"token": "t"}"#), told(elsewhere, "t", "/env.pem", "/env.cert"));
    assert_eq!(
        said(&typed(), r#"{"url": "nats://prod"}"#),
        told("nats://prod", "environment", "/env.pem", "/env.cert")
    );
    let url = Global { server: Some("nats://a:b@flag".into()), ..typed() };
    assert_eq!(said(&url, all), told("nats://a:b@flag", "a b", "/c.pem", "/c"));
    let ca = Global { tls_ca: Some("/flag.pem".into()), ..typed() };
    assert_eq!(said(&ca, all), told("nats://prod", "of context", "/flag.pem", "/c"));
    // One that the environment names, or that is selected, stays below it.
    assert_eq!(said(&Global::default(), all), told(elsewhere, "env secret", "/env.pem", "/env.cert"));
}

#[test]
fn a_percent_sign_that_begins_no_code_stands_for_itself() {
    assert_eq!(percent_decoded("%41%2fb%"), "A/b%");
    assert_eq!(percent_decoded("100%zz%+1%C3%A9"), "100%zz%+1é");
}

#[test]
fn a_duration_is_above_zero() {
    for (text, wanted) in [("5s", 5_000), ("500ms", 500), ("1m30s", 90_000), ("1.5s", 1_500)] {
        assert_eq!(duration(text).unwrap(), Duration::from_millis(wanted), "{text}");
    }
    for text in ["", "5", "0s", "-1s", "soon"] {
        assert!(duration(text).is_err(), "{text}");
    }
}
