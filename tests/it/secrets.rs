//! Secrets: encrypted strings on their way from the file to the service, what a schema marks, passwords of URLs; and that
//! nothing that confhot says or keeps has them.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use confhot::kv::{Pattern, Settings};
use confhot::live::group::Group;
use confhot::live::{Event, Live, Rejection};
use confhot::secret::{Identities, encrypt, generate};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::{Value, json};

use crate::feed::{connect, key, put};
use crate::support::{
    self, CONFHOT, DEADLINE, Daemon, Postgres, Stage, VERSIONS, confhot, eventually, http_get, named,
};

/// What no output has, encrypted in the document.
const SEALED: &str = "pl4nted\"sealed 9f2c";
/// What no output has, marked by the schema.
const MARKED: &str = "pl4nted-marked-77aa";
/// What no output has, in a URL.
const OF_URL: &str = "pl4nted-of-url-c01d";

/// An identity in a file of a directory, and how to encrypt for it.
struct Key {
    file: PathBuf,
    recipient: String,
    identities: Arc<Identities>,
}

impl Key {
    fn new(dir: &Path, name: &str) -> Key {
        let (identity, recipient) = generate();
        let file = dir.join(name);
        fs::write(&file, format!("# {recipient}\n{identity}\n")).unwrap();
        Key { file, recipient: recipient.to_string(), identities: Identities::parse(&identity).unwrap().into() }
    }

    fn token(&self, plain: &str) -> String {
        encrypt(plain, &[self.recipient.parse().unwrap()]).unwrap()
    }

    fn file(&self) -> &str {
        self.file.to_str().unwrap()
    }
}

/// Exit code, stdout and stderr.
fn said(args: &[&str], stdin: impl Into<Vec<u8>>) -> (i32, String, String) {
    let output = confhot().args(args).write_stdin(stdin).timeout(DEADLINE).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

impl Stage {
    fn serve(&self, more: &[&str]) -> Daemon {
        let args = ["serve", "--name", "service1", "--format", "json", "--server", &self.url, "--bucket", &self.bucket];
        Daemon::start(args.iter().chain(more))
    }
}

#[test]
fn a_string_is_encrypted_for_all_who_are_named_and_decrypted_by_each_of_them_alone() {
    let dir = tempfile::tempdir().unwrap();
    let made = dir.path().join("made.key");
    let (code, recipient, stderr) = said(&["secret", "keygen", made.to_str().unwrap()], "");
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert_eq!(fs::metadata(&made).unwrap().permissions().mode() & 0o777, 0o600);
    let again = said(&["secret", "keygen", made.to_str().unwrap()], "");
    assert!(again.0 == 2 && again.2.contains("exists"), "{again:?}");
    let (other, stranger) = (Key::new(dir.path(), "other"), Key::new(dir.path(), "stranger"));
    let team = dir.path().join("team.txt");
    fs::write(&team, format!("# the others\n\n{}\n", other.recipient)).unwrap();

    let to = ["secret", "encrypt", "--to", recipient.trim(), "--recipients-file", team.to_str().unwrap()];
    let (code, token, stderr) = said(&to, "hunter2\n");
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(token.starts_with("ENC[age,") && token.ends_with("]\n") && token.lines().count() == 1, "{token}");
    for file in [made.to_str().unwrap(), other.file()] {
        let decrypted = said(&["secret", "decrypt", "--identity", file], format!("  \"{}\"\n", token.trim()));
        assert_eq!(decrypted, (0, "hunter2\n".into(), String::new()));
    }
    let no = said(&["secret", "decrypt", "--identity", stranger.file()], token.as_str());
    assert!(no.0 == 1 && no.1.is_empty() && no.2.starts_with("error: it is encrypted for others"), "{no:?}");

    // One line feed is no part of it, a second one is; a password in a URL is what was asked for.
    for (typed, plain) in [("a\n\n", "a\n"), ("a\r\n", "a"), ("x://u:pass@h", "x://u:pass@h")] {
        let (_, token, _) = said(&["secret", "encrypt", "--to", &other.recipient, "--format", "json"], typed);
        let token: Value = serde_json::from_str(&token).unwrap();
        let decrypt = ["secret", "decrypt", "--identity", other.file(), "--format", "json"];
        let (_, shown, _) = said(&decrypt, token["token"].as_str().unwrap());
        assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), json!({ "plain": plain }));
    }
    for (args, stdin) in [
        (&["secret", "encrypt"][..], &b"x"[..]),
        (&["secret", "encrypt", "--to", "age1nobody"], b"x"),
        (&["secret", "encrypt", "--to", &other.recipient], b"\n"),
        (&["secret", "encrypt", "--to", &other.recipient], b"\xff"),
        (&["secret", "decrypt", "--identity", team.to_str().unwrap()], b"x"),
        (&["secret", "decrypt", "--identity", "/nowhere"], b"x"),
    ] {
        assert_eq!(said(args, stdin).0, 2, "{args:?}");
    }
}

#[test]
fn serve_reads_what_is_encrypted_and_only_ciphertext_is_kept() {
    let stage = Stage::new();
    let ours = Key::new(stage.root.path(), "ours.key");
    let postgres = Postgres::shared();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(postgres.create("sealed", "pl4nted-in-postgres"));
    let url = postgres.url("sealed", "pl4nted-in-postgres");
    stage.save("service1.toml", format!("# kept\n[database]\nurl = '{}'\n", ours.token(&url)));
    let _loader = stage.loader(&[]);
    let state = stage.root.path().join("state");
    let flags = ["--identity", ours.file(), "--state-dir", state.to_str().unwrap(), "--http", "127.0.0.1:0"];

    let mut service = stage.serve(&flags);
    service.event("applied");

    let page = |page: &str| http_get(&format!("{}/{page}", crate::serve::address(&service))).unwrap();
    let (status, answer) = page("db");
    assert!(status == 200 && answer.contains("\"user\":\"sealed\""), "{answer}");
    let (_, config) = page("config");
    assert_eq!(serde_json::from_str::<Value>(&config).unwrap()["value"], json!({"database": {"url": "[hidden]"}}));
    let kept = fs::read_to_string(state.join("service1.state")).unwrap();
    assert!(kept.contains("# kept") && kept.contains("ENC[age,") && !kept.contains("pl4nted"), "{kept}");
    assert!(stage.value("service1").unwrap().contains("ENC[age,"));
}

#[test]
fn what_cannot_be_decrypted_is_rejected_with_its_place_and_the_last_good_value_serves_on() {
    let stage = Stage::new();
    let (ours, others) = (Key::new(stage.root.path(), "ours"), Key::new(stage.root.path(), "others"));
    stage.put("service1", "n = 1\n");
    for (flags, key, why) in
        [(&[][..], &ours, "--identity"), (&["--identity", ours.file()], &others, "for others than this identity")]
    {
        let mut service = stage.serve(&[&["--http", "127.0.0.1:0"], flags].concat());
        let good = service.event("applied")["revision"].clone();
        let token = key.token("hunter2");
        stage.put("service1", &format!("n = 2\n[db]\npass = '{token}'\n"));

        let told = service.event("rejected");
        assert_eq!((&told["kind"], &told["serving"]), (&json!("invalid"), &good), "{told}");
        let reason = told["reason"].as_str().unwrap();
        assert!(reason.starts_with("db.pass: it is encrypted") && reason.contains(why), "{reason}");
        let (_, config) = http_get(&format!("{}/config", crate::serve::address(&service))).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&config).unwrap()["value"], json!({"n": 1}));
        stage.put("service1", "n = 1\n");
        service.event("applied");
    }
    let (code, _, stderr) = stage.said(&["serve", "--name", "service1", "--identity", "/nowhere"], "");
    assert!(code == 2 && stderr.starts_with("error: cannot read /nowhere"), "{stderr}");
}

#[derive(Debug, serde::Deserialize)]
struct Sealed {
    pass: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_and_a_group_decode_and_check_the_plain_strings_and_tell_no_reason_with_them() {
    let dir = tempfile::tempdir().unwrap();
    let ours = Key::new(dir.path(), "ours");
    let bucket = connect(&support::shared(VERSIONS[2]).url()).await.bucket(&support::bucket()).unwrap();
    bucket.ensure(&Settings::default()).await.unwrap();
    let a = key("a");
    put(&bucket, &a, &format!("pass = '{}'", ours.token("good hunter2"))).await;
    let refused = |new: &str| match new.starts_with("good") {
        true => Ok(()),
        false => Err(Rejection::invalid(format!("{new:?} is not good"))),
    };
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let note = |told: &Arc<Mutex<Vec<String>>>, event: &Event| {
        if let Event::Rejected { rejection, .. } = event {
            told.lock().unwrap().push(rejection.reason.clone());
        }
    };
    let (of_live, of_group) = (told.clone(), told.clone());
    let live = Live::<Sealed>::builder(&bucket, &a)
        .identities(ours.identities.clone())
        .check(move |_, new| async move { refused(&new.pass) })
        .observe(move |event| note(&of_live, event))
        .start();
    let group = Group::<Sealed>::builder(&bucket, &Pattern::parse("*").unwrap())
        .identities(ours.identities.clone())
        .check(move |_, new| async move { new.iter().try_for_each(|(_, new)| refused(&new.pass)) })
        .observe(move |_, event| note(&of_group, event))
        .start();
    live.ready().await;
    assert_eq!(live.load().as_ref().unwrap().pass, "good hunter2");
    let of_group = || group.load().get(&a).map(|it| it.pass.clone());
    assert_eq!(eventually("the group has it", DEADLINE, of_group), "good hunter2");
    // One that prints what serves prints no secret but what its own type shows.
    assert!(!format!("{:?}", live.load().as_ref().unwrap().document).contains("hunter2"));

    put(&bucket, &a, &format!("pass = '{}'", ours.token("bad hunter3"))).await;
    eventually("both say no", DEADLINE, || (told.lock().unwrap().len() == 2).then_some(()));
    put(&bucket, &a, &format!("pass = ['{}']", ours.token("bad hunter4"))).await;
    eventually("both say no again", DEADLINE, || (told.lock().unwrap().len() == 4).then_some(()));
    let told = told.lock().unwrap();
    assert!(told[..2].iter().all(|reason| reason == "\"[hidden]\" is not good"), "{told:?}");
    assert!(told.iter().all(|reason| !reason.contains("hunter")), "{told:?}");
    assert_eq!(live.load().as_ref().unwrap().pass, "good hunter2");
}

#[test]
fn a_token_is_taken_where_the_schema_cannot_judge_it_and_judged_where_it_is_read() {
    let stage = Stage::new();
    let ours = Key::new(stage.root.path(), "ours");
    stage.save(
        "service1.schema.json",
        r#"{"properties": {"pass": {"type": "string", "pattern": "^good"}, "n": {"type": "integer"}}}"#,
    );
    let good = format!("pass = '{}'\n", ours.token("good"));
    stage.save("service1.toml", &good);
    let validate = |stage: &Stage| said(&["validate", stage.dir().to_str().unwrap()], "").0;
    assert_eq!(validate(&stage), 0);
    assert_eq!(stage.once(&[]).0, 0);
    let mut service = stage.serve(&["--identity", ours.file()]);
    service.event("applied");

    let bad = format!("pass = '{}'\n", ours.token("bad hunter2"));
    assert_eq!(stage.said(&["put", "service1", "--as", "toml"], &bad).0, 0);
    let told = service.event("rejected");
    let reason = told["reason"].as_str().unwrap();
    assert!(reason.contains("the schema refuses it: pass: ") && !reason.contains("hunter2"), "{reason}");

    // It is a string everywhere.
    let wrong = format!("n = '{}'\n", ours.token("7"));
    let (code, _, stderr) = stage.said(&["put", "service1", "--as", "toml"], &wrong);
    assert!(code == 1 && stderr.contains("n: the value is not of type"), "{stderr}");
    stage.save("service1.toml", wrong);
    assert_eq!((validate(&stage), stage.once(&[]).0), (1, 1));
}

#[test]
fn a_document_with_the_redaction_mark_is_refused_with_its_place_wherever_it_is_published() {
    let stage = Stage::new();
    let text = "n = 1\nurl = 'postgres://me:[hidden]@h/d'\n";
    let refusal = "2:7: url: `[hidden]` stands where a secret was when this was shown; put the secret back";
    stage.save("a.toml", text);
    let file = stage.dir().join("a.toml").display().to_string();

    assert_eq!(
        stage.said(&["put", "a", "--as", "toml"], text),
        (1, String::new(), format!("error: stdin:{refusal}\n"))
    );
    let forced = stage.said(&["put", "a", &file, "--force"], "");
    assert_eq!(forced, (1, String::new(), format!("error: {file}:{refusal}\n")));
    assert_eq!(stage.said(&["put", "--set", &file], ""), (1, String::new(), format!("error: {file}:{refusal}\n")));
    let (code, told, _) = said(&["validate", &file], "");
    assert_eq!((code, told), (1, format!("{file}:{refusal}\n")));
    let (_, told, _) = said(&["validate", &file, "--format", "json"], "");
    let told: Value = serde_json::from_str(&told).unwrap();
    let reason = "`[hidden]` stands where a secret was when this was shown; put the secret back";
    assert_eq!(told["errors"], json!([{"line": 2, "column": 7, "at": "url", "reason": reason}]));
    let (code, events) = stage.once(&[]);
    let told = named(&events, "refused")[0];
    assert_eq!((code, &told["line"], &told["column"]), (1, &json!(2), &json!(7)), "{told}");
    assert_eq!(stage.value("a"), None);

    // A list of that name is none, nor is what a schema describes.
    stage.save("a.toml", "tags = ['hidden']\n");
    stage.save("a.schema.json", r#"{"description": "shown as [hidden]"}"#);
    assert_eq!(stage.once(&[]).0, 0);
}

#[test]
fn rotating_encrypts_a_directory_anew_or_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new, other) = (Key::new(dir.path(), "old"), Key::new(dir.path(), "new"), Key::new(dir.path(), "other"));
    let configs = dir.path().join("configs");
    fs::create_dir_all(configs.join("deep")).unwrap();
    let toml = format!("# why\npass = '{}' # kept\nn   =  1\n", old.token("one"));
    let yaml = format!("a: [\"{}\", {{b: \"{}\"}}]   # kept\n", old.token("two"), old.token("three"));
    fs::write(configs.join("a.toml"), &toml).unwrap();
    fs::write(configs.join("deep/b.yaml"), &yaml).unwrap();
    fs::write(configs.join("clear.json"), "{\"broken\": }").unwrap();
    fs::set_permissions(configs.join("a.toml"), fs::Permissions::from_mode(0o640)).unwrap();
    symlink("a.toml", configs.join("link.toml")).unwrap();
    let rotate = |identity: &Key, more: &[&str]| {
        let args =
            ["secret", "rotate", configs.to_str().unwrap(), "--identity", identity.file(), "--to", &new.recipient];
        said(&[&args[..], more].concat(), "")
    };
    let held = || {
        [fs::read_to_string(configs.join("a.toml")).unwrap(), fs::read_to_string(configs.join("deep/b.yaml")).unwrap()]
    };

    // One token for others: nothing is changed, not the files before it either.
    fs::write(configs.join("z.toml"), format!("[x]\npass = '{}'\n", other.token("four"))).unwrap();
    let (code, stdout, stderr) = rotate(&old, &[]);
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.starts_with("error: ") && stderr.contains("z.toml: x.pass: it is encrypted for others"), "{stderr}");
    assert_eq!(held(), [toml.clone(), yaml.clone()]);
    fs::remove_file(configs.join("z.toml")).unwrap();

    let (code, stdout, stderr) = rotate(&old, &["--format", "json"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let told: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(told.iter().map(|it| it["tokens"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2]);
    let [a, b] = held();
    assert!(a.starts_with("# why\npass = 'ENC[age,") && a.ends_with("]' # kept\nn   =  1\n") && a != toml, "{a}");
    assert!(b.starts_with("a: [\"ENC[age,") && b.ends_with("\"}]   # kept\n") && b != yaml, "{b}");
    let token = a.split('\'').nth(1).unwrap();
    assert_eq!(new.identities.open(token).as_deref(), Ok("one"));
    assert!(old.identities.open(token).is_err());
    assert_eq!(fs::metadata(configs.join("a.toml")).unwrap().permissions().mode() & 0o777, 0o640);
    assert!(configs.join("link.toml").is_symlink());
    let left: Vec<_> = fs::read_dir(&configs).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(left.len(), 4, "{left:?}");

    // Another file that belongs to somebody else is not written to.
    fs::write(dir.path().join("outside.toml"), format!("pass = '{}'\n", new.token("x"))).unwrap();
    symlink(dir.path().join("outside.toml"), configs.join("outside.toml")).unwrap();
    let (code, _, stderr) = rotate(&new, &[]);
    assert!(code == 1 && stderr.contains("outside.toml: leads out of"), "{stderr}");
    assert_eq!(held(), [a, b]);
}

const MARKS: &str = r#"{"properties": {
    "pin": {"type": "string", "writeOnly": true},
    "server": {"properties": {"request_timeout": {"writeOnly": true}}}
}}"#;

#[test]
fn a_diff_tells_that_a_hidden_value_changed_and_not_to_what() {
    let stage = Stage::new();
    stage.put("_schema.a", MARKS);
    stage.put("a", "{\n  \"n\": 1,\n  \"pin\": \"first-77\",\n  \"url\": \"x://u:first-78@h\"\n}\n");
    stage.put("a", "{\n  \"n\": 1,\n  \"pin\": \"second-77\",\n  \"url\": \"x://u:second-78@h\"\n}\n");

    let (code, text, _) = stage.said(&["diff", "a"], "");
    let lines = "-  \"pin\": \"[hidden]\",\n-  \"url\": \"x://u:[hidden]@h\"\n+  \"pin\": \"[hidden]\",\n+  \"url\": \"x://u:[hidden]@h\"\n";
    assert!(code == 1 && text.contains(lines) && text.contains("   \"n\": 1,\n"), "{text}");
    let (code, text, _) = stage.said(&["diff", "a", "--structural"], "");
    assert_eq!(code, 1);
    assert!(text.contains("~ pin: \"[hidden]\" -> \"[hidden]\"\n"), "{text}");
    let (_, text, _) = stage.said(&["diff", "a", "--format", "json"], "");
    let told: Value = serde_json::from_str(&text).unwrap();
    let pin = json!({"path": "pin", "before": "[hidden]", "after": "[hidden]"});
    assert_eq!(told["changes"][0], pin, "{told}");
    assert!(told["text"].as_str().unwrap().contains(lines), "{told}");
    let (_, _, shown) = stage.said(&["rollback", "a", "--yes"], "");
    assert!(shown.contains("-  \"pin\": \"[hidden]\",\n"), "{shown}");
    // What does not parse is not shown where something of it is secret.
    let (code, text, _) = stage.said(&["diff", "a", "--file", "-"], "{\"n\": 1, \"pin\": \"second-77\",,}");
    assert!(code == 1 && text.ends_with("+[hidden]\n\\ No newline at end of file\n"), "{text}");
    for text in [text, shown] {
        assert!(!text.contains("-77") && !text.contains("-78"), "{text}");
    }
}

/// Stdout of confhot on a terminal.
fn on_a_terminal(args: &[&str]) -> String {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let path = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let slave = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut child = Command::new(CONFHOT)
        .args(args)
        .env_clear()
        .env("HOME", "/nowhere")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(slave)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut terminal = fs::File::from(master);
    let reader = std::thread::spawn(move || {
        let (mut said, mut bytes) = (Vec::new(), [0; 4096]);
        // The other side's end is an error on Linux.
        while let Ok(n @ 1..) = terminal.read(&mut bytes) {
            said.extend_from_slice(&bytes[..n]);
        }
        said
    });
    child.wait().unwrap();
    String::from_utf8(reader.join().unwrap()).unwrap().replace("\r\n", "\n")
}

#[test]
fn get_hides_secrets_on_a_terminal_and_nowhere_else() {
    let stage = Stage::new();
    let ours = Key::new(stage.root.path(), "ours");
    let token = ours.token("hunter1");
    let text = format!("a: {token}\nn: 1\npin: hunter2 # mine\nurl: x://u:hunter3@h/d\nturn: \u{202e}x\n");
    let marks = r#"{"properties": {"pin": {"writeOnly": true}}}"#;
    stage.put("_schema.a", marks);
    assert_eq!(stage.said(&["put", "a", "--as", "yaml"], &text).0, 0);
    let get = ["get", "a", "--server", &stage.url, "--bucket", &stage.bucket];

    let shown = on_a_terminal(&get);
    let hidden = format!("a: {token}\nn: 1\npin: \"[hidden]\"\nurl: x://u:[hidden]@h/d\nturn: \\u{{202e}}x\n");
    assert_eq!(shown, hidden);
    assert_eq!(on_a_terminal(&[&get[..], &["--reveal"]].concat()), text);
    assert_eq!(said(&get, "").1, text);
    let (_, json, _) = said(&[&get[..], &["--format", "json"]].concat(), "");
    let value = &serde_json::from_str::<Value>(&json).unwrap()["value"];
    assert_eq!((&value["pin"], &value["url"]), (&json!("hunter2"), &json!("x://u:hunter3@h/d")));
    // What was copied from there is not published.
    let (code, _, stderr) = stage.said(&["put", "a", "--as", "yaml"], &shown);
    assert!(code == 1 && stderr.starts_with("error: stdin:3:6: pin: `[hidden]` "), "{stderr}");
}

#[test]
fn a_service_that_starts_without_a_server_still_knows_what_is_secret() {
    let mut server = support::Server::start();
    let stage = Stage::at(&server.url());
    let ours = Key::new(stage.root.path(), "ours");
    stage.put("_schema.service1", MARKS);
    stage.put("service1", &format!("pin = '{MARKED}'\nn = 1\ntoken = '{}'\n", ours.token(SEALED)));
    let state = stage.root.path().join("state");
    let flags = ["--identity", ours.file(), "--state-dir", state.to_str().unwrap(), "--http", "127.0.0.1:0"];
    stage.serve(&flags).event("applied");
    server.stop();

    let mut service = stage.serve(&flags);
    assert_eq!(service.event("applied")["from"], "state");
    let (_, config) = http_get(&format!("{}/config", crate::serve::address(&service))).unwrap();
    let value = json!({"pin": "[hidden]", "n": 1, "token": "[hidden]"});
    assert_eq!(serde_json::from_str::<Value>(&config).unwrap()["value"], value);
}

#[test]
fn a_marked_secret_that_stands_elsewhere_too_is_hidden_there_in_what_is_told_by_meaning() {
    let stage = Stage::new();
    let put = |text: &str| assert_eq!(stage.said(&["put", "service1", "--as", "yaml"], text).0, 0);
    put("n: 1\n");
    crate::schemas::store(&stage, "_schema.service1", MARKS);
    put("pin: &a pl4nted-x\nother: *a\nthird: \"x pl4nted-x y\"\nof pl4nted-x: [n]\n");

    let (code, text, _) = stage.said(&["diff", "service1", "--structural"], "");
    let told = [
        "- n: 1",
        "+ pin: \"[hidden]\"",
        "+ other: \"[hidden]\"",
        "+ third: \"x [hidden] y\"",
        "+ \"of [hidden]\": [\"n\"]",
    ];
    assert_eq!((code, text.lines().collect::<Vec<_>>()), (1, told.to_vec()));
    for more in [&[][..], &["--structural"]] {
        let (_, told, _) = stage.said(&[&["diff", "service1", "--format", "json"], more].concat(), "");
        assert!(!told.contains("pl4nted") && told.contains("x [hidden] y"), "{told}");
    }
    let (_, exact, _) = stage.said(&["get", "service1", "--format", "json"], "");
    assert_eq!(serde_json::from_str::<Value>(&exact).unwrap()["value"]["other"], "pl4nted-x");

    let mut service = stage.serve(&["--http", "127.0.0.1:0"]);
    service.event("applied");
    let (_, config) = http_get(&format!("{}/config", crate::serve::address(&service))).unwrap();
    let value = json!({"pin": "[hidden]", "other": "[hidden]", "third": "x [hidden] y", "of [hidden]": ["n"]});
    assert_eq!(serde_json::from_str::<Value>(&config).unwrap()["value"], value);
}

#[test]
fn where_the_schema_is_broken_nobody_knows_what_is_secret_and_nothing_is_shown() {
    let stage = Stage::new();
    stage.put("service1", "n = 1\npin = 'first'\n");
    crate::schemas::store(&stage, "_schema.service1", "no schema");
    let mut service = stage.serve(&["--http", "127.0.0.1:0"]);
    service.event("applied");

    let (_, config) = http_get(&format!("{}/config", crate::serve::address(&service))).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&config).unwrap()["value"], json!({"n": "[hidden]", "pin": "[hidden]"}));
    let (code, text, stderr) = stage.said(&["diff", "service1"], "");
    assert!(code == 1 && stderr.contains("all values of service1 are hidden"), "{stderr}");
    assert!(text.ends_with("+n = \"[hidden]\"\n+pin = \"[hidden]\"\n"), "{text}");
}

/// All files below a directory.
fn files(dir: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        match entry.is_dir() {
            true => found.extend(files(&entry)),
            false => found.push((entry.clone(), String::from_utf8_lossy(&fs::read(&entry).unwrap()).into_owned())),
        }
    }
    found
}

#[test]
fn a_planted_secret_is_in_nothing_that_confhot_says_or_keeps() {
    let stage = Stage::new();
    let ours = Key::new(stage.root.path(), "ours.key");
    let token = ours.token(SEALED);
    // Where it came from, and what it was printed as, for the message of a failure.
    let mut told: Vec<(String, String)> = Vec::new();
    let url = format!("postgres://me:{OF_URL}@127.0.0.1:1/shop");
    let document = |n: u32, more: &str| {
        format!(
            "n = {n}\ntoken = '{token}'\npin = '{MARKED}' # not {MARKED}\n{more}[database]\nurl = '{url}'\nconnect_timeout = '50ms'\n"
        )
    };
    stage.save("service1.schema.json", MARKS);
    stage.save("service1.toml", document(1, ""));

    let loud = ["-vv"];
    let mut loader = stage.loader(&loud);
    let state = stage.root.path().join("state");
    let flags = ["-vv", "--identity", ours.file(), "--http", "127.0.0.1:0"];
    let shown_only =
        ["--without-database", "--state-dir", state.to_str().unwrap(), "--instance", "one", "--log-format", "json"];
    let mut service = stage.serve(&[&flags[..], &shown_only].concat());
    // This one connects, and so says why it cannot.
    let mut connecting = stage.serve(&[&flags[..], &["--instance", "two"]].concat());
    let watch = |format: &str| {
        Daemon::start(["watch", "-vv", "--format", format, "--server", &stage.url, "--bucket", &stage.bucket])
    };
    let (mut watch_text, mut watch_json) = (watch("text"), watch("json"));
    for daemon in [&watch_text, &watch_json] {
        eventually("watching", DEADLINE, || daemon.stderr().contains("watching ").then_some(()));
    }
    service.event("applied");
    assert_eq!(connecting.event("rejected")["kind"], "unavailable");

    let runtime = tokio::runtime::Runtime::new().unwrap();
    // Rejected for what is secret, quoted: by the sample service, by a type, and by the loader's own check.
    let pages = ["config", "readyz", "metrics", "db", "features/on", "features/none", "healthz"];
    let look = |service: &Daemon, told: &mut Vec<(String, String)>| {
        for page in pages {
            let (_, body) = http_get(&format!("{}/{page}", crate::serve::address(service))).unwrap();
            told.push((page.to_owned(), body));
        }
        for more in [&[][..], &["--format", "json"]] {
            let (_, stdout, stderr) = stage.said(&[&["status", "-vv"], more].concat(), "");
            told.push(("status".to_owned(), stdout + &stderr));
        }
    };
    look(&service, &mut told);
    for (n, more) in [
        (2, format!("[logging]\nlevel = '{token}'\n")),
        (3, format!("[server]\nrequest_timeout = '{MARKED}'\n")),
        (4, format!("[server]\nhost = ['{token}', '{MARKED}', '{url}']\n")),
        (5, format!("[features]\non = '{token}'\n")),
    ] {
        stage.place("service1.toml", document(n, &more));
        let revision = loader.event("published")["revision"].clone();
        let heard = service.wait_event(DEADLINE, |event| event["revision"] == revision);
        assert_eq!(heard["event"], if n == 5 { "applied" } else { "rejected" }, "{heard}");
        if n < 4 {
            let kept = eventually("a record with the reason", DEADLINE, || {
                let records = runtime.block_on(records(&stage));
                records.iter().any(|record| record.contains("[hidden]")).then_some(records)
            });
            told.extend(kept.into_iter().map(|record| ("record".to_owned(), record)));
        }
        look(&service, &mut told);
        look(&connecting, &mut told);
    }
    stage.place("service1.toml", format!("{}\n= broken", document(6, "")));
    loader.event("refused");
    stage.place("service1.toml", document(7, ""));
    loader.event("published");

    let file = stage.dir().join("service1.toml").display().to_string();
    let dir = stage.dir().display().to_string();
    let checked = stage.root.path().join("checked").display().to_string();
    fs::create_dir(&checked).unwrap();
    fs::write(format!("{checked}/other.schema.json"), MARKS).unwrap();
    fs::write(format!("{checked}/other.toml"), document(1, "")).unwrap();
    let message = format!("for {url}");
    // A check that quotes what it was given, as far as that is told.
    let quote = ["--validate-with", "grep -v ^token >&2; exit 1"];
    let verbs: Vec<(Vec<&str>, String)> = vec![
        (vec!["put", "service1", "--as", "toml", "--message", &message], document(8, "")),
        ([&["put", "service1", "--as", "toml"][..], &quote].concat(), document(9, "")),
        (vec!["put", "service1", "--as", "toml"], format!("{}\n= broken", document(9, ""))),
        (vec!["put", "service1", "--as", "toml"], document(9, &format!("x = '[hidden]{MARKED}'\n"))),
        (vec!["put", "service1", "--as", "toml", "--expect", "1"], document(9, "")),
        (
            vec!["put", "service1", "--as", "toml", "--wait", "10s", "--rollback-on-reject"],
            document(9, &format!("[logging]\nlevel = '{token}'\n")),
        ),
        (vec!["history", "service1"], String::new()),
        (vec!["diff", "service1"], String::new()),
        (vec!["diff", "service1", "2"], String::new()),
        (vec!["diff", "service1", "--structural"], String::new()),
        (vec!["diff", "service1", "2", "--structural"], String::new()),
        (vec!["diff", "service1", "--file", "-"], String::new()),
        (vec!["diff", "service1", "--file", "-"], format!("{}\n= broken", document(9, ""))),
        (vec!["diff", "service1", "--file", &file], String::new()),
        (vec!["diff", "--all", "1"], String::new()),
        (vec!["diff", "service1", "2", "--file", "/nowhere"], String::new()),
        (vec!["rollback", "service1"], String::new()),
        (vec!["rollback", "service1", "2", "--yes"], String::new()),
        (vec!["keys"], String::new()),
        (vec!["status"], String::new()),
        (vec!["status", "service1"], String::new()),
        (vec!["validate", &dir], String::new()),
        ([&["validate", &dir][..], &quote].concat(), String::new()),
        ([&["loader", "--dir", &checked, "--once"][..], &quote].concat(), String::new()),
        (vec!["loader", "--dir", &dir, "--once", "--dry-run"], String::new()),
        (vec!["export", "out", "--force"], String::new()),
        (vec!["journal", "status"], String::new()),
        (vec!["doctor", "--role", "service", "--name", "service1"], String::new()),
        (vec!["acl", "--role", "service", "--name", "service1"], String::new()),
        (vec!["secret", "encrypt", "--to", &ours.recipient], SEALED.to_owned()),
        (vec!["secret", "decrypt", "--identity", "/nowhere"], token.clone()),
        (vec!["secret", "rotate", &dir, "--identity", ours.file(), "--to", &ours.recipient], String::new()),
        (vec!["delete", "service1"], String::new()),
        (vec!["get", "service1", "--revision", "99999"], String::new()),
    ];
    for (args, stdin) in &verbs {
        for format in ["text", "json"] {
            let global = ["-vv", "--format", format, "--server", &stage.url, "--bucket", &stage.bucket];
            let output = confhot()
                .args(args)
                .args(global)
                .current_dir(stage.root.path())
                .write_stdin(stdin.as_str())
                .timeout(2 * DEADLINE)
                .output()
                .unwrap();
            assert!(output.status.code().is_some(), "{args:?} did not end");
            let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            told.push((format!("{args:?} {format}"), said.concat()));
        }
    }
    // Of the server that nobody knows, its URL is said.
    let elsewhere = format!("nats://me:{OF_URL}@127.0.0.1:1");
    for format in ["text", "json"] {
        let (code, stdout, stderr) = said(&["get", "service1", "-vv", "--server", &elsewhere, "--format", format], "");
        assert_eq!(code, 2);
        told.push(("get elsewhere".into(), stdout + &stderr));
    }
    told.push((
        "get on a terminal".into(),
        on_a_terminal(&["get", "service1", "--server", &stage.url, "--bucket", &stage.bucket]),
    ));
    look(&service, &mut told);
    for daemon in [&mut loader, &mut service, &mut connecting, &mut watch_text, &mut watch_json] {
        daemon.sigterm();
        assert_eq!(daemon.wait_exit(), 0);
        told.push(("stderr of a daemon".into(), daemon.stderr()));
        told.extend(daemon.events().iter().map(|event| ("event".to_owned(), event.to_string())));
    }
    for (from, text) in &told {
        // As it is, in JSON's quotes, and in Rust's.
        for secret in [SEALED, "sealed 9f2c", MARKED, OF_URL] {
            assert!(!text.contains(secret), "{secret} in {from}: {text}");
        }
    }
    // What is stored is the document itself: only what was encrypted is not in it.
    let kept = files(&state);
    assert!(kept.iter().any(|(_, text)| text.contains(MARKED)), "{kept:?}");
    for (path, text) in kept {
        assert!(!text.contains("sealed 9f2c"), "{}", path.display());
    }
    // That they were asked for is seen by what stands in their place.
    for from in [
        "config",
        "readyz",
        "status",
        "record",
        "event",
        "get on a terminal",
        "get elsewhere",
        "[\"history\", \"service1\"] text",
        "[\"history\", \"service1\"] json",
        "[\"diff\", \"service1\"] text",
        "[\"diff\", \"service1\", \"2\", \"--structural\"] json",
        "[\"diff\", \"--all\", \"1\"] json",
        "[\"rollback\", \"service1\", \"2\", \"--yes\"] text",
        "[\"put\", \"service1\", \"--as\", \"toml\", \"--validate-with\"",
        "\"--once\", \"--validate-with\"",
        "[\"validate\"",
        "--rollback-on-reject",
    ] {
        let hidden = |(of, text): &&(String, String)| of.contains(from) && text.contains("[hidden]");
        assert!(told.iter().any(|it| hidden(&it)), "nothing is hidden in {from}");
    }
}

/// What the instances keep in the bucket of records, its history included.
async fn records(stage: &Stage) -> Vec<String> {
    use futures_util::TryStreamExt as _;
    let jetstream = async_nats::jetstream::new(async_nats::connect(&stage.url).await.unwrap());
    let store = jetstream.get_key_value(format!("{}_status", stage.bucket)).await.unwrap();
    let keys: Vec<String> = store.keys().await.unwrap().try_collect().await.unwrap();
    let mut records = Vec::new();
    for key in keys {
        let value = store.get(&key).await.unwrap().unwrap_or_default();
        records.push(format!("{key} {}", String::from_utf8_lossy(&value)));
    }
    records
}
