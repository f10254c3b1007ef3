# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_confhot_global_optspecs
    string join \n server= context= creds= nkey= user= password-file= token-file= tls-ca= tls-cert= tls-key= tls-first js-domain= inbox-prefix= bucket= timeout= format= color= q/quiet v/verbose log-format= h/help V/version
end

function __fish_confhot_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_confhot_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_confhot_using_subcommand
    set -l cmd (__fish_confhot_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c confhot -n "__fish_confhot_needs_command" -l server -d 'NATS servers, separated by commas [env: CONFHOT_SERVER, else NATS_URL] [default: nats://127.0.0.1:4222]' -r
complete -c confhot -n "__fish_confhot_needs_command" -l context -d 'A context of the `nats` CLI [env: NATS_CONTEXT] [default: the selected one, where no server is named otherwise]' -r
complete -c confhot -n "__fish_confhot_needs_command" -l creds -d 'File with a user JWT and its seed [env: NATS_CREDS]' -r -F
complete -c confhot -n "__fish_confhot_needs_command" -l nkey -d 'File with an nkey seed [env: NATS_NKEY]' -r -F
complete -c confhot -n "__fish_confhot_needs_command" -l user -d 'Who to connect as, by password [env: NATS_USER]' -r
complete -c confhot -n "__fish_confhot_needs_command" -l password-file -d 'File with the password [env: NATS_PASSWORD_FILE; NATS_PASSWORD is the password itself]' -r -F
complete -c confhot -n "__fish_confhot_needs_command" -l token-file -d 'File with a token [env: NATS_TOKEN_FILE; NATS_TOKEN is the token itself]' -r -F
complete -c confhot -n "__fish_confhot_needs_command" -l tls-ca -d 'Certificates of a private CA, as PEM [env: NATS_CA]' -r -F
complete -c confhot -n "__fish_confhot_needs_command" -l tls-cert -d 'Client certificate, as PEM [env: NATS_CERT]' -r -F
complete -c confhot -n "__fish_confhot_needs_command" -l tls-key -d 'Key of the client certificate, as PEM [env: NATS_KEY]' -r -F
complete -c confhot -n "__fish_confhot_needs_command" -l js-domain -d 'JetStream domain, where the bucket is beyond a leaf node [default: that of the context]' -r
complete -c confhot -n "__fish_confhot_needs_command" -l inbox-prefix -d 'What the subjects of answers begin with [default: that of the context, else _INBOX_ and the name of the user]' -r
complete -c confhot -n "__fish_confhot_needs_command" -l bucket -d 'The bucket [env: CONFHOT_BUCKET] [default: configs]' -r
complete -c confhot -n "__fish_confhot_needs_command" -l timeout -d 'Deadline of a connect and of each request: 5s, 500ms, 1m30s [default: 5s]' -r
complete -c confhot -n "__fish_confhot_needs_command" -l format -d 'How answers are written' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_needs_command" -l color -d 'Colours; `auto` means on a terminal and without NO_COLOR' -r -f -a "auto\t''
always\t''
never\t''"
complete -c confhot -n "__fish_confhot_needs_command" -l log-format -d 'How the log on stderr is written, messages and errors included' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_needs_command" -l tls-first -d 'Speak TLS before the server greets, as a server with `handshake_first` wants it'
complete -c confhot -n "__fish_confhot_needs_command" -s q -l quiet -d 'Say errors only'
complete -c confhot -n "__fish_confhot_needs_command" -s v -l verbose -d 'Say more; twice for all that the libraries log'
complete -c confhot -n "__fish_confhot_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c confhot -n "__fish_confhot_needs_command" -s V -l version -d 'Print version'
complete -c confhot -n "__fish_confhot_needs_command" -f -a "dev" -d 'Run all of it here: a private nats-server, the loader, and a sample service for each document'
complete -c confhot -n "__fish_confhot_needs_command" -f -a "loader" -d 'Publish what a directory holds, then each change of it'
complete -c confhot -n "__fish_confhot_needs_command" -f -a "serve" -d 'Subscribe to a key and swap to each new value live'
complete -c confhot -n "__fish_confhot_needs_command" -f -a "get" -d 'Write a key\'s value, exactly the bytes that are stored'
complete -c confhot -n "__fish_confhot_needs_command" -f -a "put" -d 'Publish one document'
complete -c confhot -n "__fish_confhot_needs_command" -f -a "diff" -d 'Compare two revisions of a key, its head with a file, or the whole bucket at two points in time'
complete -c confhot -n "__fish_confhot_needs_command" -f -a "export" -d 'Write every document of the bucket to a directory, as the bucket was at one point in time'
complete -c confhot -n "__fish_confhot_needs_command" -f -a "history" -d 'List a key\'s revisions, newest first, deletes included'
complete -c confhot -n "__fish_confhot_needs_command" -f -a "journal" -d 'Keep every revision, beyond the 64 of each key that a bucket keeps'
complete -c confhot -n "__fish_confhot_needs_command" -f -a "keys" -d 'List what is in the bucket'
complete -c confhot -n "__fish_confhot_needs_command" -f -a "delete" -d 'Delete a key: a tombstone is stored, and the history stays'
complete -c confhot -n "__fish_confhot_needs_command" -f -a "rollback" -d 'Publish an older revision\'s bytes again, as a new revision'
complete -c confhot -n "__fish_confhot_needs_command" -f -a "watch" -d 'Follow the changes of a bucket as they come'
complete -c confhot -n "__fish_confhot_needs_command" -f -a "status" -d 'Which instance runs which revision, and which was rejected and why'
complete -c confhot -n "__fish_confhot_needs_command" -f -a "validate" -d 'Check documents without a server: what the loader would refuse'
complete -c confhot -n "__fish_confhot_needs_command" -f -a "secret" -d 'Encrypt strings of documents, so that the repository and the bucket hold only ciphertext'
complete -c confhot -n "__fish_confhot_needs_command" -f -a "demo-edit" -d 'Edit a random document again and again, as a person would, to show what happens then'
complete -c confhot -n "__fish_confhot_needs_command" -f -a "acl" -d 'Print the least permissions that a role needs'
complete -c confhot -n "__fish_confhot_needs_command" -f -a "doctor" -d 'Check connection, server, bucket, permissions and this machine, and say what to do'
complete -c confhot -n "__fish_confhot_needs_command" -f -a "completions" -d 'Write the completions of a shell to stdout'
complete -c confhot -n "__fish_confhot_needs_command" -f -a "man" -d 'Write the manual: the main page to stdout, or a page for each verb into a directory'
complete -c confhot -n "__fish_confhot_using_subcommand dev" -l dir -d 'Directory of the documents' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand dev" -l nats-server -d 'The server\'s program' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand dev" -l data-dir -d 'Where the server keeps its data [default: a directory of its own for each DIR, below XDG_STATE_HOME]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand dev" -l services -d 'The most sample services to run' -r
complete -c confhot -n "__fish_confhot_using_subcommand dev" -l server -d 'NATS servers, separated by commas [env: CONFHOT_SERVER, else NATS_URL] [default: nats://127.0.0.1:4222]' -r
complete -c confhot -n "__fish_confhot_using_subcommand dev" -l context -d 'A context of the `nats` CLI [env: NATS_CONTEXT] [default: the selected one, where no server is named otherwise]' -r
complete -c confhot -n "__fish_confhot_using_subcommand dev" -l creds -d 'File with a user JWT and its seed [env: NATS_CREDS]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand dev" -l nkey -d 'File with an nkey seed [env: NATS_NKEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand dev" -l user -d 'Who to connect as, by password [env: NATS_USER]' -r
complete -c confhot -n "__fish_confhot_using_subcommand dev" -l password-file -d 'File with the password [env: NATS_PASSWORD_FILE; NATS_PASSWORD is the password itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand dev" -l token-file -d 'File with a token [env: NATS_TOKEN_FILE; NATS_TOKEN is the token itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand dev" -l tls-ca -d 'Certificates of a private CA, as PEM [env: NATS_CA]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand dev" -l tls-cert -d 'Client certificate, as PEM [env: NATS_CERT]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand dev" -l tls-key -d 'Key of the client certificate, as PEM [env: NATS_KEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand dev" -l js-domain -d 'JetStream domain, where the bucket is beyond a leaf node [default: that of the context]' -r
complete -c confhot -n "__fish_confhot_using_subcommand dev" -l inbox-prefix -d 'What the subjects of answers begin with [default: that of the context, else _INBOX_ and the name of the user]' -r
complete -c confhot -n "__fish_confhot_using_subcommand dev" -l bucket -d 'The bucket [env: CONFHOT_BUCKET] [default: configs]' -r
complete -c confhot -n "__fish_confhot_using_subcommand dev" -l timeout -d 'Deadline of a connect and of each request: 5s, 500ms, 1m30s [default: 5s]' -r
complete -c confhot -n "__fish_confhot_using_subcommand dev" -l format -d 'How answers are written' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand dev" -l color -d 'Colours; `auto` means on a terminal and without NO_COLOR' -r -f -a "auto\t''
always\t''
never\t''"
complete -c confhot -n "__fish_confhot_using_subcommand dev" -l log-format -d 'How the log on stderr is written, messages and errors included' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand dev" -l follow-outside -d 'Read what symlinks lead to outside of DIR too'
complete -c confhot -n "__fish_confhot_using_subcommand dev" -l tls-first -d 'Speak TLS before the server greets, as a server with `handshake_first` wants it'
complete -c confhot -n "__fish_confhot_using_subcommand dev" -s q -l quiet -d 'Say errors only'
complete -c confhot -n "__fish_confhot_using_subcommand dev" -s v -l verbose -d 'Say more; twice for all that the libraries log'
complete -c confhot -n "__fish_confhot_using_subcommand dev" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c confhot -n "__fish_confhot_using_subcommand loader" -l dir -d 'Directory of the documents' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand loader" -l poll -d 'Period of the sweep that finds what the kernel did not tell' -r
complete -c confhot -n "__fish_confhot_using_subcommand loader" -l replicas -d 'Copies that a new bucket has in a cluster' -r
complete -c confhot -n "__fish_confhot_using_subcommand loader" -l validate-with -d 'Your own check before a document is published: a shell command with the document on stdin, and CONFHOT_KEY and CONFHOT_PATH in its environment; it refuses by an exit code that is not 0, and what it says is the reason' -r
complete -c confhot -n "__fish_confhot_using_subcommand loader" -l validate-timeout -d 'How long it may take; then it is killed, with its process group, and the document is refused' -r
complete -c confhot -n "__fish_confhot_using_subcommand loader" -l sign -d 'Sign what is published, with the nkey seed in this file' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand loader" -l trust -d 'With --sign: whose signatures count beside its own; public nkeys or files of them, separated by commas' -r
complete -c confhot -n "__fish_confhot_using_subcommand loader" -l wait -d 'Wait until every live instance applied it, at most so long' -r
complete -c confhot -n "__fish_confhot_using_subcommand loader" -l instances -d 'With --wait: so many instances at least; 0 is content with none' -r
complete -c confhot -n "__fish_confhot_using_subcommand loader" -l server -d 'NATS servers, separated by commas [env: CONFHOT_SERVER, else NATS_URL] [default: nats://127.0.0.1:4222]' -r
complete -c confhot -n "__fish_confhot_using_subcommand loader" -l context -d 'A context of the `nats` CLI [env: NATS_CONTEXT] [default: the selected one, where no server is named otherwise]' -r
complete -c confhot -n "__fish_confhot_using_subcommand loader" -l creds -d 'File with a user JWT and its seed [env: NATS_CREDS]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand loader" -l nkey -d 'File with an nkey seed [env: NATS_NKEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand loader" -l user -d 'Who to connect as, by password [env: NATS_USER]' -r
complete -c confhot -n "__fish_confhot_using_subcommand loader" -l password-file -d 'File with the password [env: NATS_PASSWORD_FILE; NATS_PASSWORD is the password itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand loader" -l token-file -d 'File with a token [env: NATS_TOKEN_FILE; NATS_TOKEN is the token itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand loader" -l tls-ca -d 'Certificates of a private CA, as PEM [env: NATS_CA]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand loader" -l tls-cert -d 'Client certificate, as PEM [env: NATS_CERT]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand loader" -l tls-key -d 'Key of the client certificate, as PEM [env: NATS_KEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand loader" -l js-domain -d 'JetStream domain, where the bucket is beyond a leaf node [default: that of the context]' -r
complete -c confhot -n "__fish_confhot_using_subcommand loader" -l inbox-prefix -d 'What the subjects of answers begin with [default: that of the context, else _INBOX_ and the name of the user]' -r
complete -c confhot -n "__fish_confhot_using_subcommand loader" -l bucket -d 'The bucket [env: CONFHOT_BUCKET] [default: configs]' -r
complete -c confhot -n "__fish_confhot_using_subcommand loader" -l timeout -d 'Deadline of a connect and of each request: 5s, 500ms, 1m30s [default: 5s]' -r
complete -c confhot -n "__fish_confhot_using_subcommand loader" -l format -d 'How answers are written' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand loader" -l color -d 'Colours; `auto` means on a terminal and without NO_COLOR' -r -f -a "auto\t''
always\t''
never\t''"
complete -c confhot -n "__fish_confhot_using_subcommand loader" -l log-format -d 'How the log on stderr is written, messages and errors included' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand loader" -l once -d 'Publish what differs, and exit'
complete -c confhot -n "__fish_confhot_using_subcommand loader" -l dry-run -d 'Write nothing, say what would be written; implies --once'
complete -c confhot -n "__fish_confhot_using_subcommand loader" -l prune -d 'Delete the key of a file that is removed'
complete -c confhot -n "__fish_confhot_using_subcommand loader" -l yes -d 'Prune more than a fifth of the keys at once'
complete -c confhot -n "__fish_confhot_using_subcommand loader" -l enforce -d 'Put the directory\'s content over what others wrote to its keys'
complete -c confhot -n "__fish_confhot_using_subcommand loader" -l allow-empty -d 'Take an empty file for an empty document, and with --prune an empty directory for a wish'
complete -c confhot -n "__fish_confhot_using_subcommand loader" -l follow-outside -d 'Read what symlinks lead to outside of DIR too'
complete -c confhot -n "__fish_confhot_using_subcommand loader" -l force -d 'Past a guard: publish a document that lost all its keys, or that grew tenfold and past 64 KiB'
complete -c confhot -n "__fish_confhot_using_subcommand loader" -l rollback-on-reject -d 'With --wait: where an instance rejects it, take back all that was published in this run'
complete -c confhot -n "__fish_confhot_using_subcommand loader" -l tls-first -d 'Speak TLS before the server greets, as a server with `handshake_first` wants it'
complete -c confhot -n "__fish_confhot_using_subcommand loader" -s q -l quiet -d 'Say errors only'
complete -c confhot -n "__fish_confhot_using_subcommand loader" -s v -l verbose -d 'Say more; twice for all that the libraries log'
complete -c confhot -n "__fish_confhot_using_subcommand loader" -s h -l help -d 'Print help'
complete -c confhot -n "__fish_confhot_using_subcommand serve" -l name -d 'Key to follow: the service\'s name' -r
complete -c confhot -n "__fish_confhot_using_subcommand serve" -l http -d 'Serve HTTP here; port 0 takes a free one' -r
complete -c confhot -n "__fish_confhot_using_subcommand serve" -l state-dir -d 'Keep the last good value here, and start on it while no server answers' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand serve" -l trust -d 'Whose signatures count: public nkeys or files of them, separated by commas' -r
complete -c confhot -n "__fish_confhot_using_subcommand serve" -l identity -d 'Read what is encrypted in the document with the age identities in this file, in memory' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand serve" -l instance -d 'Name of this instance [default: host name and process id; with a state directory, the one kept there]' -r
complete -c confhot -n "__fish_confhot_using_subcommand serve" -l server -d 'NATS servers, separated by commas [env: CONFHOT_SERVER, else NATS_URL] [default: nats://127.0.0.1:4222]' -r
complete -c confhot -n "__fish_confhot_using_subcommand serve" -l context -d 'A context of the `nats` CLI [env: NATS_CONTEXT] [default: the selected one, where no server is named otherwise]' -r
complete -c confhot -n "__fish_confhot_using_subcommand serve" -l creds -d 'File with a user JWT and its seed [env: NATS_CREDS]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand serve" -l nkey -d 'File with an nkey seed [env: NATS_NKEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand serve" -l user -d 'Who to connect as, by password [env: NATS_USER]' -r
complete -c confhot -n "__fish_confhot_using_subcommand serve" -l password-file -d 'File with the password [env: NATS_PASSWORD_FILE; NATS_PASSWORD is the password itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand serve" -l token-file -d 'File with a token [env: NATS_TOKEN_FILE; NATS_TOKEN is the token itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand serve" -l tls-ca -d 'Certificates of a private CA, as PEM [env: NATS_CA]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand serve" -l tls-cert -d 'Client certificate, as PEM [env: NATS_CERT]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand serve" -l tls-key -d 'Key of the client certificate, as PEM [env: NATS_KEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand serve" -l js-domain -d 'JetStream domain, where the bucket is beyond a leaf node [default: that of the context]' -r
complete -c confhot -n "__fish_confhot_using_subcommand serve" -l inbox-prefix -d 'What the subjects of answers begin with [default: that of the context, else _INBOX_ and the name of the user]' -r
complete -c confhot -n "__fish_confhot_using_subcommand serve" -l bucket -d 'The bucket [env: CONFHOT_BUCKET] [default: configs]' -r
complete -c confhot -n "__fish_confhot_using_subcommand serve" -l timeout -d 'Deadline of a connect and of each request: 5s, 500ms, 1m30s [default: 5s]' -r
complete -c confhot -n "__fish_confhot_using_subcommand serve" -l format -d 'How answers are written' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand serve" -l color -d 'Colours; `auto` means on a terminal and without NO_COLOR' -r -f -a "auto\t''
always\t''
never\t''"
complete -c confhot -n "__fish_confhot_using_subcommand serve" -l log-format -d 'How the log on stderr is written, messages and errors included' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand serve" -l without-database -d 'Connect to no database: [database] is checked and shown only'
complete -c confhot -n "__fish_confhot_using_subcommand serve" -l tls-first -d 'Speak TLS before the server greets, as a server with `handshake_first` wants it'
complete -c confhot -n "__fish_confhot_using_subcommand serve" -s q -l quiet -d 'Say errors only'
complete -c confhot -n "__fish_confhot_using_subcommand serve" -s v -l verbose -d 'Say more; twice for all that the libraries log'
complete -c confhot -n "__fish_confhot_using_subcommand serve" -s h -l help -d 'Print help'
complete -c confhot -n "__fish_confhot_using_subcommand get" -l revision -d 'A revision: `43`, or `@~1` for the one before the head of this key' -r
complete -c confhot -n "__fish_confhot_using_subcommand get" -l at -d 'As it was when the bucket was at this revision, which may be another key\'s: `43`, or `@` for now' -r
complete -c confhot -n "__fish_confhot_using_subcommand get" -l trust -d 'Whose signatures count: public nkeys or files of them, separated by commas' -r
complete -c confhot -n "__fish_confhot_using_subcommand get" -l server -d 'NATS servers, separated by commas [env: CONFHOT_SERVER, else NATS_URL] [default: nats://127.0.0.1:4222]' -r
complete -c confhot -n "__fish_confhot_using_subcommand get" -l context -d 'A context of the `nats` CLI [env: NATS_CONTEXT] [default: the selected one, where no server is named otherwise]' -r
complete -c confhot -n "__fish_confhot_using_subcommand get" -l creds -d 'File with a user JWT and its seed [env: NATS_CREDS]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand get" -l nkey -d 'File with an nkey seed [env: NATS_NKEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand get" -l user -d 'Who to connect as, by password [env: NATS_USER]' -r
complete -c confhot -n "__fish_confhot_using_subcommand get" -l password-file -d 'File with the password [env: NATS_PASSWORD_FILE; NATS_PASSWORD is the password itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand get" -l token-file -d 'File with a token [env: NATS_TOKEN_FILE; NATS_TOKEN is the token itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand get" -l tls-ca -d 'Certificates of a private CA, as PEM [env: NATS_CA]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand get" -l tls-cert -d 'Client certificate, as PEM [env: NATS_CERT]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand get" -l tls-key -d 'Key of the client certificate, as PEM [env: NATS_KEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand get" -l js-domain -d 'JetStream domain, where the bucket is beyond a leaf node [default: that of the context]' -r
complete -c confhot -n "__fish_confhot_using_subcommand get" -l inbox-prefix -d 'What the subjects of answers begin with [default: that of the context, else _INBOX_ and the name of the user]' -r
complete -c confhot -n "__fish_confhot_using_subcommand get" -l bucket -d 'The bucket [env: CONFHOT_BUCKET] [default: configs]' -r
complete -c confhot -n "__fish_confhot_using_subcommand get" -l timeout -d 'Deadline of a connect and of each request: 5s, 500ms, 1m30s [default: 5s]' -r
complete -c confhot -n "__fish_confhot_using_subcommand get" -l format -d 'How answers are written' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand get" -l color -d 'Colours; `auto` means on a terminal and without NO_COLOR' -r -f -a "auto\t''
always\t''
never\t''"
complete -c confhot -n "__fish_confhot_using_subcommand get" -l log-format -d 'How the log on stderr is written, messages and errors included' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand get" -l reveal -d 'On a terminal, show secrets too: passwords of URLs, and what the schema marks'
complete -c confhot -n "__fish_confhot_using_subcommand get" -l tls-first -d 'Speak TLS before the server greets, as a server with `handshake_first` wants it'
complete -c confhot -n "__fish_confhot_using_subcommand get" -s q -l quiet -d 'Say errors only'
complete -c confhot -n "__fish_confhot_using_subcommand get" -s v -l verbose -d 'Say more; twice for all that the libraries log'
complete -c confhot -n "__fish_confhot_using_subcommand get" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c confhot -n "__fish_confhot_using_subcommand put" -l set -d 'Publish these documents, and those in these directories, as one: all of them or none; their keys are their names' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand put" -l as -d 'The document\'s format: toml, json or yaml' -r
complete -c confhot -n "__fish_confhot_using_subcommand put" -l expect -d 'Compare and set: only if the key is at this revision, `43` or `@~1`; 0 means that it has no live value' -r
complete -c confhot -n "__fish_confhot_using_subcommand put" -l message -d 'Why, for the history' -r
complete -c confhot -n "__fish_confhot_using_subcommand put" -l validate-with -d 'Your own check before a document is published: a shell command with the document on stdin, and CONFHOT_KEY and CONFHOT_PATH in its environment; it refuses by an exit code that is not 0, and what it says is the reason' -r
complete -c confhot -n "__fish_confhot_using_subcommand put" -l validate-timeout -d 'How long it may take; then it is killed, with its process group, and the document is refused' -r
complete -c confhot -n "__fish_confhot_using_subcommand put" -l sign -d 'Sign what is published, with the nkey seed in this file' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand put" -l trust -d 'With --sign: whose signatures count beside its own; public nkeys or files of them, separated by commas' -r
complete -c confhot -n "__fish_confhot_using_subcommand put" -l wait -d 'Wait until every live instance applied it, at most so long' -r
complete -c confhot -n "__fish_confhot_using_subcommand put" -l instances -d 'With --wait: so many instances at least; 0 is content with none' -r
complete -c confhot -n "__fish_confhot_using_subcommand put" -l server -d 'NATS servers, separated by commas [env: CONFHOT_SERVER, else NATS_URL] [default: nats://127.0.0.1:4222]' -r
complete -c confhot -n "__fish_confhot_using_subcommand put" -l context -d 'A context of the `nats` CLI [env: NATS_CONTEXT] [default: the selected one, where no server is named otherwise]' -r
complete -c confhot -n "__fish_confhot_using_subcommand put" -l creds -d 'File with a user JWT and its seed [env: NATS_CREDS]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand put" -l nkey -d 'File with an nkey seed [env: NATS_NKEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand put" -l user -d 'Who to connect as, by password [env: NATS_USER]' -r
complete -c confhot -n "__fish_confhot_using_subcommand put" -l password-file -d 'File with the password [env: NATS_PASSWORD_FILE; NATS_PASSWORD is the password itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand put" -l token-file -d 'File with a token [env: NATS_TOKEN_FILE; NATS_TOKEN is the token itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand put" -l tls-ca -d 'Certificates of a private CA, as PEM [env: NATS_CA]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand put" -l tls-cert -d 'Client certificate, as PEM [env: NATS_CERT]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand put" -l tls-key -d 'Key of the client certificate, as PEM [env: NATS_KEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand put" -l js-domain -d 'JetStream domain, where the bucket is beyond a leaf node [default: that of the context]' -r
complete -c confhot -n "__fish_confhot_using_subcommand put" -l inbox-prefix -d 'What the subjects of answers begin with [default: that of the context, else _INBOX_ and the name of the user]' -r
complete -c confhot -n "__fish_confhot_using_subcommand put" -l bucket -d 'The bucket [env: CONFHOT_BUCKET] [default: configs]' -r
complete -c confhot -n "__fish_confhot_using_subcommand put" -l timeout -d 'Deadline of a connect and of each request: 5s, 500ms, 1m30s [default: 5s]' -r
complete -c confhot -n "__fish_confhot_using_subcommand put" -l format -d 'How answers are written' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand put" -l color -d 'Colours; `auto` means on a terminal and without NO_COLOR' -r -f -a "auto\t''
always\t''
never\t''"
complete -c confhot -n "__fish_confhot_using_subcommand put" -l log-format -d 'How the log on stderr is written, messages and errors included' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand put" -l follow-outside -d 'With --set: read what symlinks lead to outside of these directories too'
complete -c confhot -n "__fish_confhot_using_subcommand put" -l force -d 'Past a guard: publish a document that is empty or lost all its keys, or that grew tenfold and past 64 KiB'
complete -c confhot -n "__fish_confhot_using_subcommand put" -l rollback-on-reject -d 'With --wait: where an instance rejects it, publish the last good revision again'
complete -c confhot -n "__fish_confhot_using_subcommand put" -l tls-first -d 'Speak TLS before the server greets, as a server with `handshake_first` wants it'
complete -c confhot -n "__fish_confhot_using_subcommand put" -s q -l quiet -d 'Say errors only'
complete -c confhot -n "__fish_confhot_using_subcommand put" -s v -l verbose -d 'Say more; twice for all that the libraries log'
complete -c confhot -n "__fish_confhot_using_subcommand put" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c confhot -n "__fish_confhot_using_subcommand diff" -l file -d 'Compare the head with a file (`-` for stdin)' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand diff" -l all -d 'Every document that differs between two points in time, revisions of the bucket: `40 44`; `40` for since then' -r
complete -c confhot -n "__fish_confhot_using_subcommand diff" -l server -d 'NATS servers, separated by commas [env: CONFHOT_SERVER, else NATS_URL] [default: nats://127.0.0.1:4222]' -r
complete -c confhot -n "__fish_confhot_using_subcommand diff" -l context -d 'A context of the `nats` CLI [env: NATS_CONTEXT] [default: the selected one, where no server is named otherwise]' -r
complete -c confhot -n "__fish_confhot_using_subcommand diff" -l creds -d 'File with a user JWT and its seed [env: NATS_CREDS]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand diff" -l nkey -d 'File with an nkey seed [env: NATS_NKEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand diff" -l user -d 'Who to connect as, by password [env: NATS_USER]' -r
complete -c confhot -n "__fish_confhot_using_subcommand diff" -l password-file -d 'File with the password [env: NATS_PASSWORD_FILE; NATS_PASSWORD is the password itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand diff" -l token-file -d 'File with a token [env: NATS_TOKEN_FILE; NATS_TOKEN is the token itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand diff" -l tls-ca -d 'Certificates of a private CA, as PEM [env: NATS_CA]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand diff" -l tls-cert -d 'Client certificate, as PEM [env: NATS_CERT]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand diff" -l tls-key -d 'Key of the client certificate, as PEM [env: NATS_KEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand diff" -l js-domain -d 'JetStream domain, where the bucket is beyond a leaf node [default: that of the context]' -r
complete -c confhot -n "__fish_confhot_using_subcommand diff" -l inbox-prefix -d 'What the subjects of answers begin with [default: that of the context, else _INBOX_ and the name of the user]' -r
complete -c confhot -n "__fish_confhot_using_subcommand diff" -l bucket -d 'The bucket [env: CONFHOT_BUCKET] [default: configs]' -r
complete -c confhot -n "__fish_confhot_using_subcommand diff" -l timeout -d 'Deadline of a connect and of each request: 5s, 500ms, 1m30s [default: 5s]' -r
complete -c confhot -n "__fish_confhot_using_subcommand diff" -l format -d 'How answers are written' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand diff" -l color -d 'Colours; `auto` means on a terminal and without NO_COLOR' -r -f -a "auto\t''
always\t''
never\t''"
complete -c confhot -n "__fish_confhot_using_subcommand diff" -l log-format -d 'How the log on stderr is written, messages and errors included' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand diff" -l structural -d 'By meaning instead of by line'
complete -c confhot -n "__fish_confhot_using_subcommand diff" -l tls-first -d 'Speak TLS before the server greets, as a server with `handshake_first` wants it'
complete -c confhot -n "__fish_confhot_using_subcommand diff" -s q -l quiet -d 'Say errors only'
complete -c confhot -n "__fish_confhot_using_subcommand diff" -s v -l verbose -d 'Say more; twice for all that the libraries log'
complete -c confhot -n "__fish_confhot_using_subcommand diff" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c confhot -n "__fish_confhot_using_subcommand export" -l at -d 'As the bucket was at this revision: `43`, or `@` for now' -r
complete -c confhot -n "__fish_confhot_using_subcommand export" -l server -d 'NATS servers, separated by commas [env: CONFHOT_SERVER, else NATS_URL] [default: nats://127.0.0.1:4222]' -r
complete -c confhot -n "__fish_confhot_using_subcommand export" -l context -d 'A context of the `nats` CLI [env: NATS_CONTEXT] [default: the selected one, where no server is named otherwise]' -r
complete -c confhot -n "__fish_confhot_using_subcommand export" -l creds -d 'File with a user JWT and its seed [env: NATS_CREDS]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand export" -l nkey -d 'File with an nkey seed [env: NATS_NKEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand export" -l user -d 'Who to connect as, by password [env: NATS_USER]' -r
complete -c confhot -n "__fish_confhot_using_subcommand export" -l password-file -d 'File with the password [env: NATS_PASSWORD_FILE; NATS_PASSWORD is the password itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand export" -l token-file -d 'File with a token [env: NATS_TOKEN_FILE; NATS_TOKEN is the token itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand export" -l tls-ca -d 'Certificates of a private CA, as PEM [env: NATS_CA]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand export" -l tls-cert -d 'Client certificate, as PEM [env: NATS_CERT]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand export" -l tls-key -d 'Key of the client certificate, as PEM [env: NATS_KEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand export" -l js-domain -d 'JetStream domain, where the bucket is beyond a leaf node [default: that of the context]' -r
complete -c confhot -n "__fish_confhot_using_subcommand export" -l inbox-prefix -d 'What the subjects of answers begin with [default: that of the context, else _INBOX_ and the name of the user]' -r
complete -c confhot -n "__fish_confhot_using_subcommand export" -l bucket -d 'The bucket [env: CONFHOT_BUCKET] [default: configs]' -r
complete -c confhot -n "__fish_confhot_using_subcommand export" -l timeout -d 'Deadline of a connect and of each request: 5s, 500ms, 1m30s [default: 5s]' -r
complete -c confhot -n "__fish_confhot_using_subcommand export" -l format -d 'How answers are written' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand export" -l color -d 'Colours; `auto` means on a terminal and without NO_COLOR' -r -f -a "auto\t''
always\t''
never\t''"
complete -c confhot -n "__fish_confhot_using_subcommand export" -l log-format -d 'How the log on stderr is written, messages and errors included' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand export" -l force -d 'Write to a directory that is not empty: replaces files of the same name, and leaves the others'
complete -c confhot -n "__fish_confhot_using_subcommand export" -l tls-first -d 'Speak TLS before the server greets, as a server with `handshake_first` wants it'
complete -c confhot -n "__fish_confhot_using_subcommand export" -s q -l quiet -d 'Say errors only'
complete -c confhot -n "__fish_confhot_using_subcommand export" -s v -l verbose -d 'Say more; twice for all that the libraries log'
complete -c confhot -n "__fish_confhot_using_subcommand export" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c confhot -n "__fish_confhot_using_subcommand history" -l limit -d 'At most so many revisions' -r
complete -c confhot -n "__fish_confhot_using_subcommand history" -l trust -d 'Whose signatures count: public nkeys or files of them, separated by commas' -r
complete -c confhot -n "__fish_confhot_using_subcommand history" -l server -d 'NATS servers, separated by commas [env: CONFHOT_SERVER, else NATS_URL] [default: nats://127.0.0.1:4222]' -r
complete -c confhot -n "__fish_confhot_using_subcommand history" -l context -d 'A context of the `nats` CLI [env: NATS_CONTEXT] [default: the selected one, where no server is named otherwise]' -r
complete -c confhot -n "__fish_confhot_using_subcommand history" -l creds -d 'File with a user JWT and its seed [env: NATS_CREDS]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand history" -l nkey -d 'File with an nkey seed [env: NATS_NKEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand history" -l user -d 'Who to connect as, by password [env: NATS_USER]' -r
complete -c confhot -n "__fish_confhot_using_subcommand history" -l password-file -d 'File with the password [env: NATS_PASSWORD_FILE; NATS_PASSWORD is the password itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand history" -l token-file -d 'File with a token [env: NATS_TOKEN_FILE; NATS_TOKEN is the token itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand history" -l tls-ca -d 'Certificates of a private CA, as PEM [env: NATS_CA]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand history" -l tls-cert -d 'Client certificate, as PEM [env: NATS_CERT]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand history" -l tls-key -d 'Key of the client certificate, as PEM [env: NATS_KEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand history" -l js-domain -d 'JetStream domain, where the bucket is beyond a leaf node [default: that of the context]' -r
complete -c confhot -n "__fish_confhot_using_subcommand history" -l inbox-prefix -d 'What the subjects of answers begin with [default: that of the context, else _INBOX_ and the name of the user]' -r
complete -c confhot -n "__fish_confhot_using_subcommand history" -l bucket -d 'The bucket [env: CONFHOT_BUCKET] [default: configs]' -r
complete -c confhot -n "__fish_confhot_using_subcommand history" -l timeout -d 'Deadline of a connect and of each request: 5s, 500ms, 1m30s [default: 5s]' -r
complete -c confhot -n "__fish_confhot_using_subcommand history" -l format -d 'How answers are written' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand history" -l color -d 'Colours; `auto` means on a terminal and without NO_COLOR' -r -f -a "auto\t''
always\t''
never\t''"
complete -c confhot -n "__fish_confhot_using_subcommand history" -l log-format -d 'How the log on stderr is written, messages and errors included' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand history" -l journal -d 'With all that `confhot journal enable` keeps beyond what the bucket does'
complete -c confhot -n "__fish_confhot_using_subcommand history" -l tls-first -d 'Speak TLS before the server greets, as a server with `handshake_first` wants it'
complete -c confhot -n "__fish_confhot_using_subcommand history" -s q -l quiet -d 'Say errors only'
complete -c confhot -n "__fish_confhot_using_subcommand history" -s v -l verbose -d 'Say more; twice for all that the libraries log'
complete -c confhot -n "__fish_confhot_using_subcommand history" -s h -l help -d 'Print help'
complete -c confhot -n "__fish_confhot_using_subcommand journal" -l max-age -d 'With enable: revisions that were copied longer ago go: 8760h is a year' -r
complete -c confhot -n "__fish_confhot_using_subcommand journal" -l max-bytes -d 'With enable: the oldest revisions go when all of them are more bytes' -r
complete -c confhot -n "__fish_confhot_using_subcommand journal" -l server -d 'NATS servers, separated by commas [env: CONFHOT_SERVER, else NATS_URL] [default: nats://127.0.0.1:4222]' -r
complete -c confhot -n "__fish_confhot_using_subcommand journal" -l context -d 'A context of the `nats` CLI [env: NATS_CONTEXT] [default: the selected one, where no server is named otherwise]' -r
complete -c confhot -n "__fish_confhot_using_subcommand journal" -l creds -d 'File with a user JWT and its seed [env: NATS_CREDS]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand journal" -l nkey -d 'File with an nkey seed [env: NATS_NKEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand journal" -l user -d 'Who to connect as, by password [env: NATS_USER]' -r
complete -c confhot -n "__fish_confhot_using_subcommand journal" -l password-file -d 'File with the password [env: NATS_PASSWORD_FILE; NATS_PASSWORD is the password itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand journal" -l token-file -d 'File with a token [env: NATS_TOKEN_FILE; NATS_TOKEN is the token itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand journal" -l tls-ca -d 'Certificates of a private CA, as PEM [env: NATS_CA]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand journal" -l tls-cert -d 'Client certificate, as PEM [env: NATS_CERT]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand journal" -l tls-key -d 'Key of the client certificate, as PEM [env: NATS_KEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand journal" -l js-domain -d 'JetStream domain, where the bucket is beyond a leaf node [default: that of the context]' -r
complete -c confhot -n "__fish_confhot_using_subcommand journal" -l inbox-prefix -d 'What the subjects of answers begin with [default: that of the context, else _INBOX_ and the name of the user]' -r
complete -c confhot -n "__fish_confhot_using_subcommand journal" -l bucket -d 'The bucket [env: CONFHOT_BUCKET] [default: configs]' -r
complete -c confhot -n "__fish_confhot_using_subcommand journal" -l timeout -d 'Deadline of a connect and of each request: 5s, 500ms, 1m30s [default: 5s]' -r
complete -c confhot -n "__fish_confhot_using_subcommand journal" -l format -d 'How answers are written' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand journal" -l color -d 'Colours; `auto` means on a terminal and without NO_COLOR' -r -f -a "auto\t''
always\t''
never\t''"
complete -c confhot -n "__fish_confhot_using_subcommand journal" -l log-format -d 'How the log on stderr is written, messages and errors included' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand journal" -s y -l yes -d 'With disable: do not ask'
complete -c confhot -n "__fish_confhot_using_subcommand journal" -l tls-first -d 'Speak TLS before the server greets, as a server with `handshake_first` wants it'
complete -c confhot -n "__fish_confhot_using_subcommand journal" -s q -l quiet -d 'Say errors only'
complete -c confhot -n "__fish_confhot_using_subcommand journal" -s v -l verbose -d 'Say more; twice for all that the libraries log'
complete -c confhot -n "__fish_confhot_using_subcommand journal" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c confhot -n "__fish_confhot_using_subcommand keys" -l server -d 'NATS servers, separated by commas [env: CONFHOT_SERVER, else NATS_URL] [default: nats://127.0.0.1:4222]' -r
complete -c confhot -n "__fish_confhot_using_subcommand keys" -l context -d 'A context of the `nats` CLI [env: NATS_CONTEXT] [default: the selected one, where no server is named otherwise]' -r
complete -c confhot -n "__fish_confhot_using_subcommand keys" -l creds -d 'File with a user JWT and its seed [env: NATS_CREDS]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand keys" -l nkey -d 'File with an nkey seed [env: NATS_NKEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand keys" -l user -d 'Who to connect as, by password [env: NATS_USER]' -r
complete -c confhot -n "__fish_confhot_using_subcommand keys" -l password-file -d 'File with the password [env: NATS_PASSWORD_FILE; NATS_PASSWORD is the password itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand keys" -l token-file -d 'File with a token [env: NATS_TOKEN_FILE; NATS_TOKEN is the token itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand keys" -l tls-ca -d 'Certificates of a private CA, as PEM [env: NATS_CA]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand keys" -l tls-cert -d 'Client certificate, as PEM [env: NATS_CERT]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand keys" -l tls-key -d 'Key of the client certificate, as PEM [env: NATS_KEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand keys" -l js-domain -d 'JetStream domain, where the bucket is beyond a leaf node [default: that of the context]' -r
complete -c confhot -n "__fish_confhot_using_subcommand keys" -l inbox-prefix -d 'What the subjects of answers begin with [default: that of the context, else _INBOX_ and the name of the user]' -r
complete -c confhot -n "__fish_confhot_using_subcommand keys" -l bucket -d 'The bucket [env: CONFHOT_BUCKET] [default: configs]' -r
complete -c confhot -n "__fish_confhot_using_subcommand keys" -l timeout -d 'Deadline of a connect and of each request: 5s, 500ms, 1m30s [default: 5s]' -r
complete -c confhot -n "__fish_confhot_using_subcommand keys" -l format -d 'How answers are written' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand keys" -l color -d 'Colours; `auto` means on a terminal and without NO_COLOR' -r -f -a "auto\t''
always\t''
never\t''"
complete -c confhot -n "__fish_confhot_using_subcommand keys" -l log-format -d 'How the log on stderr is written, messages and errors included' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand keys" -l tls-first -d 'Speak TLS before the server greets, as a server with `handshake_first` wants it'
complete -c confhot -n "__fish_confhot_using_subcommand keys" -s q -l quiet -d 'Say errors only'
complete -c confhot -n "__fish_confhot_using_subcommand keys" -s v -l verbose -d 'Say more; twice for all that the libraries log'
complete -c confhot -n "__fish_confhot_using_subcommand keys" -s h -l help -d 'Print help'
complete -c confhot -n "__fish_confhot_using_subcommand delete" -l server -d 'NATS servers, separated by commas [env: CONFHOT_SERVER, else NATS_URL] [default: nats://127.0.0.1:4222]' -r
complete -c confhot -n "__fish_confhot_using_subcommand delete" -l context -d 'A context of the `nats` CLI [env: NATS_CONTEXT] [default: the selected one, where no server is named otherwise]' -r
complete -c confhot -n "__fish_confhot_using_subcommand delete" -l creds -d 'File with a user JWT and its seed [env: NATS_CREDS]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand delete" -l nkey -d 'File with an nkey seed [env: NATS_NKEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand delete" -l user -d 'Who to connect as, by password [env: NATS_USER]' -r
complete -c confhot -n "__fish_confhot_using_subcommand delete" -l password-file -d 'File with the password [env: NATS_PASSWORD_FILE; NATS_PASSWORD is the password itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand delete" -l token-file -d 'File with a token [env: NATS_TOKEN_FILE; NATS_TOKEN is the token itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand delete" -l tls-ca -d 'Certificates of a private CA, as PEM [env: NATS_CA]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand delete" -l tls-cert -d 'Client certificate, as PEM [env: NATS_CERT]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand delete" -l tls-key -d 'Key of the client certificate, as PEM [env: NATS_KEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand delete" -l js-domain -d 'JetStream domain, where the bucket is beyond a leaf node [default: that of the context]' -r
complete -c confhot -n "__fish_confhot_using_subcommand delete" -l inbox-prefix -d 'What the subjects of answers begin with [default: that of the context, else _INBOX_ and the name of the user]' -r
complete -c confhot -n "__fish_confhot_using_subcommand delete" -l bucket -d 'The bucket [env: CONFHOT_BUCKET] [default: configs]' -r
complete -c confhot -n "__fish_confhot_using_subcommand delete" -l timeout -d 'Deadline of a connect and of each request: 5s, 500ms, 1m30s [default: 5s]' -r
complete -c confhot -n "__fish_confhot_using_subcommand delete" -l format -d 'How answers are written' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand delete" -l color -d 'Colours; `auto` means on a terminal and without NO_COLOR' -r -f -a "auto\t''
always\t''
never\t''"
complete -c confhot -n "__fish_confhot_using_subcommand delete" -l log-format -d 'How the log on stderr is written, messages and errors included' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand delete" -s y -l yes -d 'Do not ask'
complete -c confhot -n "__fish_confhot_using_subcommand delete" -l tls-first -d 'Speak TLS before the server greets, as a server with `handshake_first` wants it'
complete -c confhot -n "__fish_confhot_using_subcommand delete" -s q -l quiet -d 'Say errors only'
complete -c confhot -n "__fish_confhot_using_subcommand delete" -s v -l verbose -d 'Say more; twice for all that the libraries log'
complete -c confhot -n "__fish_confhot_using_subcommand delete" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c confhot -n "__fish_confhot_using_subcommand rollback" -l message -d 'Why, for the history' -r
complete -c confhot -n "__fish_confhot_using_subcommand rollback" -l sign -d 'Sign what is published, with the nkey seed in this file' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand rollback" -l trust -d 'With --sign: whose signatures count beside its own; public nkeys or files of them, separated by commas' -r
complete -c confhot -n "__fish_confhot_using_subcommand rollback" -l wait -d 'Wait until every live instance applied it, at most so long' -r
complete -c confhot -n "__fish_confhot_using_subcommand rollback" -l instances -d 'With --wait: so many instances at least; 0 is content with none' -r
complete -c confhot -n "__fish_confhot_using_subcommand rollback" -l server -d 'NATS servers, separated by commas [env: CONFHOT_SERVER, else NATS_URL] [default: nats://127.0.0.1:4222]' -r
complete -c confhot -n "__fish_confhot_using_subcommand rollback" -l context -d 'A context of the `nats` CLI [env: NATS_CONTEXT] [default: the selected one, where no server is named otherwise]' -r
complete -c confhot -n "__fish_confhot_using_subcommand rollback" -l creds -d 'File with a user JWT and its seed [env: NATS_CREDS]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand rollback" -l nkey -d 'File with an nkey seed [env: NATS_NKEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand rollback" -l user -d 'Who to connect as, by password [env: NATS_USER]' -r
complete -c confhot -n "__fish_confhot_using_subcommand rollback" -l password-file -d 'File with the password [env: NATS_PASSWORD_FILE; NATS_PASSWORD is the password itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand rollback" -l token-file -d 'File with a token [env: NATS_TOKEN_FILE; NATS_TOKEN is the token itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand rollback" -l tls-ca -d 'Certificates of a private CA, as PEM [env: NATS_CA]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand rollback" -l tls-cert -d 'Client certificate, as PEM [env: NATS_CERT]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand rollback" -l tls-key -d 'Key of the client certificate, as PEM [env: NATS_KEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand rollback" -l js-domain -d 'JetStream domain, where the bucket is beyond a leaf node [default: that of the context]' -r
complete -c confhot -n "__fish_confhot_using_subcommand rollback" -l inbox-prefix -d 'What the subjects of answers begin with [default: that of the context, else _INBOX_ and the name of the user]' -r
complete -c confhot -n "__fish_confhot_using_subcommand rollback" -l bucket -d 'The bucket [env: CONFHOT_BUCKET] [default: configs]' -r
complete -c confhot -n "__fish_confhot_using_subcommand rollback" -l timeout -d 'Deadline of a connect and of each request: 5s, 500ms, 1m30s [default: 5s]' -r
complete -c confhot -n "__fish_confhot_using_subcommand rollback" -l format -d 'How answers are written' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand rollback" -l color -d 'Colours; `auto` means on a terminal and without NO_COLOR' -r -f -a "auto\t''
always\t''
never\t''"
complete -c confhot -n "__fish_confhot_using_subcommand rollback" -l log-format -d 'How the log on stderr is written, messages and errors included' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand rollback" -l set -d 'Take back all that was published as one with the key\'s head, as one'
complete -c confhot -n "__fish_confhot_using_subcommand rollback" -s y -l yes -d 'Do not ask'
complete -c confhot -n "__fish_confhot_using_subcommand rollback" -l tls-first -d 'Speak TLS before the server greets, as a server with `handshake_first` wants it'
complete -c confhot -n "__fish_confhot_using_subcommand rollback" -s q -l quiet -d 'Say errors only'
complete -c confhot -n "__fish_confhot_using_subcommand rollback" -s v -l verbose -d 'Say more; twice for all that the libraries log'
complete -c confhot -n "__fish_confhot_using_subcommand rollback" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c confhot -n "__fish_confhot_using_subcommand watch" -l trust -d 'Whose signatures count: public nkeys or files of them, separated by commas' -r
complete -c confhot -n "__fish_confhot_using_subcommand watch" -l server -d 'NATS servers, separated by commas [env: CONFHOT_SERVER, else NATS_URL] [default: nats://127.0.0.1:4222]' -r
complete -c confhot -n "__fish_confhot_using_subcommand watch" -l context -d 'A context of the `nats` CLI [env: NATS_CONTEXT] [default: the selected one, where no server is named otherwise]' -r
complete -c confhot -n "__fish_confhot_using_subcommand watch" -l creds -d 'File with a user JWT and its seed [env: NATS_CREDS]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand watch" -l nkey -d 'File with an nkey seed [env: NATS_NKEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand watch" -l user -d 'Who to connect as, by password [env: NATS_USER]' -r
complete -c confhot -n "__fish_confhot_using_subcommand watch" -l password-file -d 'File with the password [env: NATS_PASSWORD_FILE; NATS_PASSWORD is the password itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand watch" -l token-file -d 'File with a token [env: NATS_TOKEN_FILE; NATS_TOKEN is the token itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand watch" -l tls-ca -d 'Certificates of a private CA, as PEM [env: NATS_CA]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand watch" -l tls-cert -d 'Client certificate, as PEM [env: NATS_CERT]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand watch" -l tls-key -d 'Key of the client certificate, as PEM [env: NATS_KEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand watch" -l js-domain -d 'JetStream domain, where the bucket is beyond a leaf node [default: that of the context]' -r
complete -c confhot -n "__fish_confhot_using_subcommand watch" -l inbox-prefix -d 'What the subjects of answers begin with [default: that of the context, else _INBOX_ and the name of the user]' -r
complete -c confhot -n "__fish_confhot_using_subcommand watch" -l bucket -d 'The bucket [env: CONFHOT_BUCKET] [default: configs]' -r
complete -c confhot -n "__fish_confhot_using_subcommand watch" -l timeout -d 'Deadline of a connect and of each request: 5s, 500ms, 1m30s [default: 5s]' -r
complete -c confhot -n "__fish_confhot_using_subcommand watch" -l format -d 'How answers are written' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand watch" -l color -d 'Colours; `auto` means on a terminal and without NO_COLOR' -r -f -a "auto\t''
always\t''
never\t''"
complete -c confhot -n "__fish_confhot_using_subcommand watch" -l log-format -d 'How the log on stderr is written, messages and errors included' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand watch" -l tls-first -d 'Speak TLS before the server greets, as a server with `handshake_first` wants it'
complete -c confhot -n "__fish_confhot_using_subcommand watch" -s q -l quiet -d 'Say errors only'
complete -c confhot -n "__fish_confhot_using_subcommand watch" -s v -l verbose -d 'Say more; twice for all that the libraries log'
complete -c confhot -n "__fish_confhot_using_subcommand watch" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c confhot -n "__fish_confhot_using_subcommand status" -l trust -d 'Whose signatures count: public nkeys or files of them, separated by commas' -r
complete -c confhot -n "__fish_confhot_using_subcommand status" -l server -d 'NATS servers, separated by commas [env: CONFHOT_SERVER, else NATS_URL] [default: nats://127.0.0.1:4222]' -r
complete -c confhot -n "__fish_confhot_using_subcommand status" -l context -d 'A context of the `nats` CLI [env: NATS_CONTEXT] [default: the selected one, where no server is named otherwise]' -r
complete -c confhot -n "__fish_confhot_using_subcommand status" -l creds -d 'File with a user JWT and its seed [env: NATS_CREDS]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand status" -l nkey -d 'File with an nkey seed [env: NATS_NKEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand status" -l user -d 'Who to connect as, by password [env: NATS_USER]' -r
complete -c confhot -n "__fish_confhot_using_subcommand status" -l password-file -d 'File with the password [env: NATS_PASSWORD_FILE; NATS_PASSWORD is the password itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand status" -l token-file -d 'File with a token [env: NATS_TOKEN_FILE; NATS_TOKEN is the token itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand status" -l tls-ca -d 'Certificates of a private CA, as PEM [env: NATS_CA]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand status" -l tls-cert -d 'Client certificate, as PEM [env: NATS_CERT]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand status" -l tls-key -d 'Key of the client certificate, as PEM [env: NATS_KEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand status" -l js-domain -d 'JetStream domain, where the bucket is beyond a leaf node [default: that of the context]' -r
complete -c confhot -n "__fish_confhot_using_subcommand status" -l inbox-prefix -d 'What the subjects of answers begin with [default: that of the context, else _INBOX_ and the name of the user]' -r
complete -c confhot -n "__fish_confhot_using_subcommand status" -l bucket -d 'The bucket [env: CONFHOT_BUCKET] [default: configs]' -r
complete -c confhot -n "__fish_confhot_using_subcommand status" -l timeout -d 'Deadline of a connect and of each request: 5s, 500ms, 1m30s [default: 5s]' -r
complete -c confhot -n "__fish_confhot_using_subcommand status" -l format -d 'How answers are written' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand status" -l color -d 'Colours; `auto` means on a terminal and without NO_COLOR' -r -f -a "auto\t''
always\t''
never\t''"
complete -c confhot -n "__fish_confhot_using_subcommand status" -l log-format -d 'How the log on stderr is written, messages and errors included' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand status" -l watch -d 'Show it again whenever it changes'
complete -c confhot -n "__fish_confhot_using_subcommand status" -l tls-first -d 'Speak TLS before the server greets, as a server with `handshake_first` wants it'
complete -c confhot -n "__fish_confhot_using_subcommand status" -s q -l quiet -d 'Say errors only'
complete -c confhot -n "__fish_confhot_using_subcommand status" -s v -l verbose -d 'Say more; twice for all that the libraries log'
complete -c confhot -n "__fish_confhot_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c confhot -n "__fish_confhot_using_subcommand validate" -l validate-with -d 'Your own check before a document is published: a shell command with the document on stdin, and CONFHOT_KEY and CONFHOT_PATH in its environment; it refuses by an exit code that is not 0, and what it says is the reason' -r
complete -c confhot -n "__fish_confhot_using_subcommand validate" -l validate-timeout -d 'How long it may take; then it is killed, with its process group, and the document is refused' -r
complete -c confhot -n "__fish_confhot_using_subcommand validate" -l server -d 'NATS servers, separated by commas [env: CONFHOT_SERVER, else NATS_URL] [default: nats://127.0.0.1:4222]' -r
complete -c confhot -n "__fish_confhot_using_subcommand validate" -l context -d 'A context of the `nats` CLI [env: NATS_CONTEXT] [default: the selected one, where no server is named otherwise]' -r
complete -c confhot -n "__fish_confhot_using_subcommand validate" -l creds -d 'File with a user JWT and its seed [env: NATS_CREDS]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand validate" -l nkey -d 'File with an nkey seed [env: NATS_NKEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand validate" -l user -d 'Who to connect as, by password [env: NATS_USER]' -r
complete -c confhot -n "__fish_confhot_using_subcommand validate" -l password-file -d 'File with the password [env: NATS_PASSWORD_FILE; NATS_PASSWORD is the password itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand validate" -l token-file -d 'File with a token [env: NATS_TOKEN_FILE; NATS_TOKEN is the token itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand validate" -l tls-ca -d 'Certificates of a private CA, as PEM [env: NATS_CA]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand validate" -l tls-cert -d 'Client certificate, as PEM [env: NATS_CERT]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand validate" -l tls-key -d 'Key of the client certificate, as PEM [env: NATS_KEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand validate" -l js-domain -d 'JetStream domain, where the bucket is beyond a leaf node [default: that of the context]' -r
complete -c confhot -n "__fish_confhot_using_subcommand validate" -l inbox-prefix -d 'What the subjects of answers begin with [default: that of the context, else _INBOX_ and the name of the user]' -r
complete -c confhot -n "__fish_confhot_using_subcommand validate" -l bucket -d 'The bucket [env: CONFHOT_BUCKET] [default: configs]' -r
complete -c confhot -n "__fish_confhot_using_subcommand validate" -l timeout -d 'Deadline of a connect and of each request: 5s, 500ms, 1m30s [default: 5s]' -r
complete -c confhot -n "__fish_confhot_using_subcommand validate" -l format -d 'How answers are written' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand validate" -l color -d 'Colours; `auto` means on a terminal and without NO_COLOR' -r -f -a "auto\t''
always\t''
never\t''"
complete -c confhot -n "__fish_confhot_using_subcommand validate" -l log-format -d 'How the log on stderr is written, messages and errors included' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand validate" -l follow-outside -d 'Read what symlinks lead to outside of a directory too, as the loader does with this flag'
complete -c confhot -n "__fish_confhot_using_subcommand validate" -l tls-first -d 'Speak TLS before the server greets, as a server with `handshake_first` wants it'
complete -c confhot -n "__fish_confhot_using_subcommand validate" -s q -l quiet -d 'Say errors only'
complete -c confhot -n "__fish_confhot_using_subcommand validate" -s v -l verbose -d 'Say more; twice for all that the libraries log'
complete -c confhot -n "__fish_confhot_using_subcommand validate" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c confhot -n "__fish_confhot_using_subcommand secret; and not __fish_seen_subcommand_from encrypt decrypt rotate keygen" -l server -d 'NATS servers, separated by commas [env: CONFHOT_SERVER, else NATS_URL] [default: nats://127.0.0.1:4222]' -r
complete -c confhot -n "__fish_confhot_using_subcommand secret; and not __fish_seen_subcommand_from encrypt decrypt rotate keygen" -l context -d 'A context of the `nats` CLI [env: NATS_CONTEXT] [default: the selected one, where no server is named otherwise]' -r
complete -c confhot -n "__fish_confhot_using_subcommand secret; and not __fish_seen_subcommand_from encrypt decrypt rotate keygen" -l creds -d 'File with a user JWT and its seed [env: NATS_CREDS]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand secret; and not __fish_seen_subcommand_from encrypt decrypt rotate keygen" -l nkey -d 'File with an nkey seed [env: NATS_NKEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand secret; and not __fish_seen_subcommand_from encrypt decrypt rotate keygen" -l user -d 'Who to connect as, by password [env: NATS_USER]' -r
complete -c confhot -n "__fish_confhot_using_subcommand secret; and not __fish_seen_subcommand_from encrypt decrypt rotate keygen" -l password-file -d 'File with the password [env: NATS_PASSWORD_FILE; NATS_PASSWORD is the password itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand secret; and not __fish_seen_subcommand_from encrypt decrypt rotate keygen" -l token-file -d 'File with a token [env: NATS_TOKEN_FILE; NATS_TOKEN is the token itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand secret; and not __fish_seen_subcommand_from encrypt decrypt rotate keygen" -l tls-ca -d 'Certificates of a private CA, as PEM [env: NATS_CA]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand secret; and not __fish_seen_subcommand_from encrypt decrypt rotate keygen" -l tls-cert -d 'Client certificate, as PEM [env: NATS_CERT]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand secret; and not __fish_seen_subcommand_from encrypt decrypt rotate keygen" -l tls-key -d 'Key of the client certificate, as PEM [env: NATS_KEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand secret; and not __fish_seen_subcommand_from encrypt decrypt rotate keygen" -l js-domain -d 'JetStream domain, where the bucket is beyond a leaf node [default: that of the context]' -r
complete -c confhot -n "__fish_confhot_using_subcommand secret; and not __fish_seen_subcommand_from encrypt decrypt rotate keygen" -l inbox-prefix -d 'What the subjects of answers begin with [default: that of the context, else _INBOX_ and the name of the user]' -r
complete -c confhot -n "__fish_confhot_using_subcommand secret; and not __fish_seen_subcommand_from encrypt decrypt rotate keygen" -l bucket -d 'The bucket [env: CONFHOT_BUCKET] [default: configs]' -r
complete -c confhot -n "__fish_confhot_using_subcommand secret; and not __fish_seen_subcommand_from encrypt decrypt rotate keygen" -l timeout -d 'Deadline of a connect and of each request: 5s, 500ms, 1m30s [default: 5s]' -r
complete -c confhot -n "__fish_confhot_using_subcommand secret; and not __fish_seen_subcommand_from encrypt decrypt rotate keygen" -l format -d 'How answers are written' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand secret; and not __fish_seen_subcommand_from encrypt decrypt rotate keygen" -l color -d 'Colours; `auto` means on a terminal and without NO_COLOR' -r -f -a "auto\t''
always\t''
never\t''"
complete -c confhot -n "__fish_confhot_using_subcommand secret; and not __fish_seen_subcommand_from encrypt decrypt rotate keygen" -l log-format -d 'How the log on stderr is written, messages and errors included' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand secret; and not __fish_seen_subcommand_from encrypt decrypt rotate keygen" -l tls-first -d 'Speak TLS before the server greets, as a server with `handshake_first` wants it'
complete -c confhot -n "__fish_confhot_using_subcommand secret; and not __fish_seen_subcommand_from encrypt decrypt rotate keygen" -s q -l quiet -d 'Say errors only'
complete -c confhot -n "__fish_confhot_using_subcommand secret; and not __fish_seen_subcommand_from encrypt decrypt rotate keygen" -s v -l verbose -d 'Say more; twice for all that the libraries log'
complete -c confhot -n "__fish_confhot_using_subcommand secret; and not __fish_seen_subcommand_from encrypt decrypt rotate keygen" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c confhot -n "__fish_confhot_using_subcommand secret; and not __fish_seen_subcommand_from encrypt decrypt rotate keygen" -f -a "encrypt" -d 'Print the token for a string, which is typed, or comes on stdin (one line feed at its end is no part of it)'
complete -c confhot -n "__fish_confhot_using_subcommand secret; and not __fish_seen_subcommand_from encrypt decrypt rotate keygen" -f -a "decrypt" -d 'Print what a token stands for; it is typed, or comes on stdin'
complete -c confhot -n "__fish_confhot_using_subcommand secret; and not __fish_seen_subcommand_from encrypt decrypt rotate keygen" -f -a "rotate" -d 'Encrypt each token of the documents in a directory anew: all of them, or none'
complete -c confhot -n "__fish_confhot_using_subcommand secret; and not __fish_seen_subcommand_from encrypt decrypt rotate keygen" -f -a "keygen" -d 'Make an identity, in a new file that only its owner reads, and print its recipient'
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from encrypt" -l to -d 'Who will read it: age1…; several are several' -r
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from encrypt" -l recipients-file -d 'File with more of them, one a line; `#` begins a comment' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from encrypt" -l server -d 'NATS servers, separated by commas [env: CONFHOT_SERVER, else NATS_URL] [default: nats://127.0.0.1:4222]' -r
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from encrypt" -l context -d 'A context of the `nats` CLI [env: NATS_CONTEXT] [default: the selected one, where no server is named otherwise]' -r
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from encrypt" -l creds -d 'File with a user JWT and its seed [env: NATS_CREDS]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from encrypt" -l nkey -d 'File with an nkey seed [env: NATS_NKEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from encrypt" -l user -d 'Who to connect as, by password [env: NATS_USER]' -r
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from encrypt" -l password-file -d 'File with the password [env: NATS_PASSWORD_FILE; NATS_PASSWORD is the password itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from encrypt" -l token-file -d 'File with a token [env: NATS_TOKEN_FILE; NATS_TOKEN is the token itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from encrypt" -l tls-ca -d 'Certificates of a private CA, as PEM [env: NATS_CA]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from encrypt" -l tls-cert -d 'Client certificate, as PEM [env: NATS_CERT]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from encrypt" -l tls-key -d 'Key of the client certificate, as PEM [env: NATS_KEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from encrypt" -l js-domain -d 'JetStream domain, where the bucket is beyond a leaf node [default: that of the context]' -r
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from encrypt" -l inbox-prefix -d 'What the subjects of answers begin with [default: that of the context, else _INBOX_ and the name of the user]' -r
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from encrypt" -l bucket -d 'The bucket [env: CONFHOT_BUCKET] [default: configs]' -r
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from encrypt" -l timeout -d 'Deadline of a connect and of each request: 5s, 500ms, 1m30s [default: 5s]' -r
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from encrypt" -l format -d 'How answers are written' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from encrypt" -l color -d 'Colours; `auto` means on a terminal and without NO_COLOR' -r -f -a "auto\t''
always\t''
never\t''"
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from encrypt" -l log-format -d 'How the log on stderr is written, messages and errors included' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from encrypt" -l tls-first -d 'Speak TLS before the server greets, as a server with `handshake_first` wants it'
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from encrypt" -s q -l quiet -d 'Say errors only'
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from encrypt" -s v -l verbose -d 'Say more; twice for all that the libraries log'
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from encrypt" -s h -l help -d 'Print help'
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from decrypt" -l identity -d 'File with age identities, as age-keygen writes it' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from decrypt" -l server -d 'NATS servers, separated by commas [env: CONFHOT_SERVER, else NATS_URL] [default: nats://127.0.0.1:4222]' -r
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from decrypt" -l context -d 'A context of the `nats` CLI [env: NATS_CONTEXT] [default: the selected one, where no server is named otherwise]' -r
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from decrypt" -l creds -d 'File with a user JWT and its seed [env: NATS_CREDS]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from decrypt" -l nkey -d 'File with an nkey seed [env: NATS_NKEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from decrypt" -l user -d 'Who to connect as, by password [env: NATS_USER]' -r
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from decrypt" -l password-file -d 'File with the password [env: NATS_PASSWORD_FILE; NATS_PASSWORD is the password itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from decrypt" -l token-file -d 'File with a token [env: NATS_TOKEN_FILE; NATS_TOKEN is the token itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from decrypt" -l tls-ca -d 'Certificates of a private CA, as PEM [env: NATS_CA]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from decrypt" -l tls-cert -d 'Client certificate, as PEM [env: NATS_CERT]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from decrypt" -l tls-key -d 'Key of the client certificate, as PEM [env: NATS_KEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from decrypt" -l js-domain -d 'JetStream domain, where the bucket is beyond a leaf node [default: that of the context]' -r
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from decrypt" -l inbox-prefix -d 'What the subjects of answers begin with [default: that of the context, else _INBOX_ and the name of the user]' -r
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from decrypt" -l bucket -d 'The bucket [env: CONFHOT_BUCKET] [default: configs]' -r
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from decrypt" -l timeout -d 'Deadline of a connect and of each request: 5s, 500ms, 1m30s [default: 5s]' -r
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from decrypt" -l format -d 'How answers are written' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from decrypt" -l color -d 'Colours; `auto` means on a terminal and without NO_COLOR' -r -f -a "auto\t''
always\t''
never\t''"
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from decrypt" -l log-format -d 'How the log on stderr is written, messages and errors included' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from decrypt" -l tls-first -d 'Speak TLS before the server greets, as a server with `handshake_first` wants it'
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from decrypt" -s q -l quiet -d 'Say errors only'
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from decrypt" -s v -l verbose -d 'Say more; twice for all that the libraries log'
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from decrypt" -s h -l help -d 'Print help'
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from rotate" -l identity -d 'File with age identities that read what is there' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from rotate" -l to -d 'Who will read it: age1…; several are several' -r
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from rotate" -l recipients-file -d 'File with more of them, one a line; `#` begins a comment' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from rotate" -l server -d 'NATS servers, separated by commas [env: CONFHOT_SERVER, else NATS_URL] [default: nats://127.0.0.1:4222]' -r
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from rotate" -l context -d 'A context of the `nats` CLI [env: NATS_CONTEXT] [default: the selected one, where no server is named otherwise]' -r
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from rotate" -l creds -d 'File with a user JWT and its seed [env: NATS_CREDS]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from rotate" -l nkey -d 'File with an nkey seed [env: NATS_NKEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from rotate" -l user -d 'Who to connect as, by password [env: NATS_USER]' -r
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from rotate" -l password-file -d 'File with the password [env: NATS_PASSWORD_FILE; NATS_PASSWORD is the password itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from rotate" -l token-file -d 'File with a token [env: NATS_TOKEN_FILE; NATS_TOKEN is the token itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from rotate" -l tls-ca -d 'Certificates of a private CA, as PEM [env: NATS_CA]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from rotate" -l tls-cert -d 'Client certificate, as PEM [env: NATS_CERT]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from rotate" -l tls-key -d 'Key of the client certificate, as PEM [env: NATS_KEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from rotate" -l js-domain -d 'JetStream domain, where the bucket is beyond a leaf node [default: that of the context]' -r
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from rotate" -l inbox-prefix -d 'What the subjects of answers begin with [default: that of the context, else _INBOX_ and the name of the user]' -r
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from rotate" -l bucket -d 'The bucket [env: CONFHOT_BUCKET] [default: configs]' -r
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from rotate" -l timeout -d 'Deadline of a connect and of each request: 5s, 500ms, 1m30s [default: 5s]' -r
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from rotate" -l format -d 'How answers are written' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from rotate" -l color -d 'Colours; `auto` means on a terminal and without NO_COLOR' -r -f -a "auto\t''
always\t''
never\t''"
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from rotate" -l log-format -d 'How the log on stderr is written, messages and errors included' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from rotate" -l tls-first -d 'Speak TLS before the server greets, as a server with `handshake_first` wants it'
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from rotate" -s q -l quiet -d 'Say errors only'
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from rotate" -s v -l verbose -d 'Say more; twice for all that the libraries log'
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from rotate" -s h -l help -d 'Print help'
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from keygen" -l server -d 'NATS servers, separated by commas [env: CONFHOT_SERVER, else NATS_URL] [default: nats://127.0.0.1:4222]' -r
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from keygen" -l context -d 'A context of the `nats` CLI [env: NATS_CONTEXT] [default: the selected one, where no server is named otherwise]' -r
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from keygen" -l creds -d 'File with a user JWT and its seed [env: NATS_CREDS]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from keygen" -l nkey -d 'File with an nkey seed [env: NATS_NKEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from keygen" -l user -d 'Who to connect as, by password [env: NATS_USER]' -r
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from keygen" -l password-file -d 'File with the password [env: NATS_PASSWORD_FILE; NATS_PASSWORD is the password itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from keygen" -l token-file -d 'File with a token [env: NATS_TOKEN_FILE; NATS_TOKEN is the token itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from keygen" -l tls-ca -d 'Certificates of a private CA, as PEM [env: NATS_CA]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from keygen" -l tls-cert -d 'Client certificate, as PEM [env: NATS_CERT]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from keygen" -l tls-key -d 'Key of the client certificate, as PEM [env: NATS_KEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from keygen" -l js-domain -d 'JetStream domain, where the bucket is beyond a leaf node [default: that of the context]' -r
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from keygen" -l inbox-prefix -d 'What the subjects of answers begin with [default: that of the context, else _INBOX_ and the name of the user]' -r
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from keygen" -l bucket -d 'The bucket [env: CONFHOT_BUCKET] [default: configs]' -r
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from keygen" -l timeout -d 'Deadline of a connect and of each request: 5s, 500ms, 1m30s [default: 5s]' -r
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from keygen" -l format -d 'How answers are written' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from keygen" -l color -d 'Colours; `auto` means on a terminal and without NO_COLOR' -r -f -a "auto\t''
always\t''
never\t''"
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from keygen" -l log-format -d 'How the log on stderr is written, messages and errors included' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from keygen" -l tls-first -d 'Speak TLS before the server greets, as a server with `handshake_first` wants it'
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from keygen" -s q -l quiet -d 'Say errors only'
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from keygen" -s v -l verbose -d 'Say more; twice for all that the libraries log'
complete -c confhot -n "__fish_confhot_using_subcommand secret; and __fish_seen_subcommand_from keygen" -s h -l help -d 'Print help'
complete -c confhot -n "__fish_confhot_using_subcommand demo-edit" -l dir -d 'Directory of the documents' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand demo-edit" -l every -d 'Time between two edits' -r
complete -c confhot -n "__fish_confhot_using_subcommand demo-edit" -l seed -d 'Edit as the run that said this seed did [default: a random one]' -r
complete -c confhot -n "__fish_confhot_using_subcommand demo-edit" -l server -d 'NATS servers, separated by commas [env: CONFHOT_SERVER, else NATS_URL] [default: nats://127.0.0.1:4222]' -r
complete -c confhot -n "__fish_confhot_using_subcommand demo-edit" -l context -d 'A context of the `nats` CLI [env: NATS_CONTEXT] [default: the selected one, where no server is named otherwise]' -r
complete -c confhot -n "__fish_confhot_using_subcommand demo-edit" -l creds -d 'File with a user JWT and its seed [env: NATS_CREDS]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand demo-edit" -l nkey -d 'File with an nkey seed [env: NATS_NKEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand demo-edit" -l user -d 'Who to connect as, by password [env: NATS_USER]' -r
complete -c confhot -n "__fish_confhot_using_subcommand demo-edit" -l password-file -d 'File with the password [env: NATS_PASSWORD_FILE; NATS_PASSWORD is the password itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand demo-edit" -l token-file -d 'File with a token [env: NATS_TOKEN_FILE; NATS_TOKEN is the token itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand demo-edit" -l tls-ca -d 'Certificates of a private CA, as PEM [env: NATS_CA]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand demo-edit" -l tls-cert -d 'Client certificate, as PEM [env: NATS_CERT]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand demo-edit" -l tls-key -d 'Key of the client certificate, as PEM [env: NATS_KEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand demo-edit" -l js-domain -d 'JetStream domain, where the bucket is beyond a leaf node [default: that of the context]' -r
complete -c confhot -n "__fish_confhot_using_subcommand demo-edit" -l inbox-prefix -d 'What the subjects of answers begin with [default: that of the context, else _INBOX_ and the name of the user]' -r
complete -c confhot -n "__fish_confhot_using_subcommand demo-edit" -l bucket -d 'The bucket [env: CONFHOT_BUCKET] [default: configs]' -r
complete -c confhot -n "__fish_confhot_using_subcommand demo-edit" -l timeout -d 'Deadline of a connect and of each request: 5s, 500ms, 1m30s [default: 5s]' -r
complete -c confhot -n "__fish_confhot_using_subcommand demo-edit" -l format -d 'How answers are written' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand demo-edit" -l color -d 'Colours; `auto` means on a terminal and without NO_COLOR' -r -f -a "auto\t''
always\t''
never\t''"
complete -c confhot -n "__fish_confhot_using_subcommand demo-edit" -l log-format -d 'How the log on stderr is written, messages and errors included' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand demo-edit" -l faults -d 'Make mistakes as well'
complete -c confhot -n "__fish_confhot_using_subcommand demo-edit" -l tls-first -d 'Speak TLS before the server greets, as a server with `handshake_first` wants it'
complete -c confhot -n "__fish_confhot_using_subcommand demo-edit" -s q -l quiet -d 'Say errors only'
complete -c confhot -n "__fish_confhot_using_subcommand demo-edit" -s v -l verbose -d 'Say more; twice for all that the libraries log'
complete -c confhot -n "__fish_confhot_using_subcommand demo-edit" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c confhot -n "__fish_confhot_using_subcommand acl" -l role -d 'What the user does' -r -f -a "loader\t''
service\t''
operator\t''
inspector\t''
status\t''"
complete -c confhot -n "__fish_confhot_using_subcommand acl" -l name -d 'A key that the service follows; may be given several times' -r
complete -c confhot -n "__fish_confhot_using_subcommand acl" -l journal -d 'A journal that may be read as well, as `confhot journal status` names it' -r
complete -c confhot -n "__fish_confhot_using_subcommand acl" -l as -d 'What to print' -r -f -a "nats\t'An entry of `users` in the configuration of nats-server'
nsc\t'Commands for nsc'"
complete -c confhot -n "__fish_confhot_using_subcommand acl" -l server -d 'NATS servers, separated by commas [env: CONFHOT_SERVER, else NATS_URL] [default: nats://127.0.0.1:4222]' -r
complete -c confhot -n "__fish_confhot_using_subcommand acl" -l context -d 'A context of the `nats` CLI [env: NATS_CONTEXT] [default: the selected one, where no server is named otherwise]' -r
complete -c confhot -n "__fish_confhot_using_subcommand acl" -l creds -d 'File with a user JWT and its seed [env: NATS_CREDS]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand acl" -l nkey -d 'File with an nkey seed [env: NATS_NKEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand acl" -l user -d 'Who to connect as, by password [env: NATS_USER]' -r
complete -c confhot -n "__fish_confhot_using_subcommand acl" -l password-file -d 'File with the password [env: NATS_PASSWORD_FILE; NATS_PASSWORD is the password itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand acl" -l token-file -d 'File with a token [env: NATS_TOKEN_FILE; NATS_TOKEN is the token itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand acl" -l tls-ca -d 'Certificates of a private CA, as PEM [env: NATS_CA]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand acl" -l tls-cert -d 'Client certificate, as PEM [env: NATS_CERT]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand acl" -l tls-key -d 'Key of the client certificate, as PEM [env: NATS_KEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand acl" -l js-domain -d 'JetStream domain, where the bucket is beyond a leaf node [default: that of the context]' -r
complete -c confhot -n "__fish_confhot_using_subcommand acl" -l inbox-prefix -d 'What the subjects of answers begin with [default: that of the context, else _INBOX_ and the name of the user]' -r
complete -c confhot -n "__fish_confhot_using_subcommand acl" -l bucket -d 'The bucket [env: CONFHOT_BUCKET] [default: configs]' -r
complete -c confhot -n "__fish_confhot_using_subcommand acl" -l timeout -d 'Deadline of a connect and of each request: 5s, 500ms, 1m30s [default: 5s]' -r
complete -c confhot -n "__fish_confhot_using_subcommand acl" -l format -d 'How answers are written' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand acl" -l color -d 'Colours; `auto` means on a terminal and without NO_COLOR' -r -f -a "auto\t''
always\t''
never\t''"
complete -c confhot -n "__fish_confhot_using_subcommand acl" -l log-format -d 'How the log on stderr is written, messages and errors included' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand acl" -l tls-first -d 'Speak TLS before the server greets, as a server with `handshake_first` wants it'
complete -c confhot -n "__fish_confhot_using_subcommand acl" -s q -l quiet -d 'Say errors only'
complete -c confhot -n "__fish_confhot_using_subcommand acl" -s v -l verbose -d 'Say more; twice for all that the libraries log'
complete -c confhot -n "__fish_confhot_using_subcommand acl" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c confhot -n "__fish_confhot_using_subcommand doctor" -l role -d 'What this user is for' -r -f -a "loader\t''
service\t''
operator\t''
inspector\t''
status\t''"
complete -c confhot -n "__fish_confhot_using_subcommand doctor" -l name -d 'A key that the service follows; may be given several times' -r
complete -c confhot -n "__fish_confhot_using_subcommand doctor" -l dir -d 'The directory that a loader is to watch: whether the kernel can' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand doctor" -l server -d 'NATS servers, separated by commas [env: CONFHOT_SERVER, else NATS_URL] [default: nats://127.0.0.1:4222]' -r
complete -c confhot -n "__fish_confhot_using_subcommand doctor" -l context -d 'A context of the `nats` CLI [env: NATS_CONTEXT] [default: the selected one, where no server is named otherwise]' -r
complete -c confhot -n "__fish_confhot_using_subcommand doctor" -l creds -d 'File with a user JWT and its seed [env: NATS_CREDS]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand doctor" -l nkey -d 'File with an nkey seed [env: NATS_NKEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand doctor" -l user -d 'Who to connect as, by password [env: NATS_USER]' -r
complete -c confhot -n "__fish_confhot_using_subcommand doctor" -l password-file -d 'File with the password [env: NATS_PASSWORD_FILE; NATS_PASSWORD is the password itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand doctor" -l token-file -d 'File with a token [env: NATS_TOKEN_FILE; NATS_TOKEN is the token itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand doctor" -l tls-ca -d 'Certificates of a private CA, as PEM [env: NATS_CA]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand doctor" -l tls-cert -d 'Client certificate, as PEM [env: NATS_CERT]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand doctor" -l tls-key -d 'Key of the client certificate, as PEM [env: NATS_KEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand doctor" -l js-domain -d 'JetStream domain, where the bucket is beyond a leaf node [default: that of the context]' -r
complete -c confhot -n "__fish_confhot_using_subcommand doctor" -l inbox-prefix -d 'What the subjects of answers begin with [default: that of the context, else _INBOX_ and the name of the user]' -r
complete -c confhot -n "__fish_confhot_using_subcommand doctor" -l bucket -d 'The bucket [env: CONFHOT_BUCKET] [default: configs]' -r
complete -c confhot -n "__fish_confhot_using_subcommand doctor" -l timeout -d 'Deadline of a connect and of each request: 5s, 500ms, 1m30s [default: 5s]' -r
complete -c confhot -n "__fish_confhot_using_subcommand doctor" -l format -d 'How answers are written' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand doctor" -l color -d 'Colours; `auto` means on a terminal and without NO_COLOR' -r -f -a "auto\t''
always\t''
never\t''"
complete -c confhot -n "__fish_confhot_using_subcommand doctor" -l log-format -d 'How the log on stderr is written, messages and errors included' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand doctor" -l tls-first -d 'Speak TLS before the server greets, as a server with `handshake_first` wants it'
complete -c confhot -n "__fish_confhot_using_subcommand doctor" -s q -l quiet -d 'Say errors only'
complete -c confhot -n "__fish_confhot_using_subcommand doctor" -s v -l verbose -d 'Say more; twice for all that the libraries log'
complete -c confhot -n "__fish_confhot_using_subcommand doctor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c confhot -n "__fish_confhot_using_subcommand completions" -l server -d 'NATS servers, separated by commas [env: CONFHOT_SERVER, else NATS_URL] [default: nats://127.0.0.1:4222]' -r
complete -c confhot -n "__fish_confhot_using_subcommand completions" -l context -d 'A context of the `nats` CLI [env: NATS_CONTEXT] [default: the selected one, where no server is named otherwise]' -r
complete -c confhot -n "__fish_confhot_using_subcommand completions" -l creds -d 'File with a user JWT and its seed [env: NATS_CREDS]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand completions" -l nkey -d 'File with an nkey seed [env: NATS_NKEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand completions" -l user -d 'Who to connect as, by password [env: NATS_USER]' -r
complete -c confhot -n "__fish_confhot_using_subcommand completions" -l password-file -d 'File with the password [env: NATS_PASSWORD_FILE; NATS_PASSWORD is the password itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand completions" -l token-file -d 'File with a token [env: NATS_TOKEN_FILE; NATS_TOKEN is the token itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand completions" -l tls-ca -d 'Certificates of a private CA, as PEM [env: NATS_CA]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand completions" -l tls-cert -d 'Client certificate, as PEM [env: NATS_CERT]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand completions" -l tls-key -d 'Key of the client certificate, as PEM [env: NATS_KEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand completions" -l js-domain -d 'JetStream domain, where the bucket is beyond a leaf node [default: that of the context]' -r
complete -c confhot -n "__fish_confhot_using_subcommand completions" -l inbox-prefix -d 'What the subjects of answers begin with [default: that of the context, else _INBOX_ and the name of the user]' -r
complete -c confhot -n "__fish_confhot_using_subcommand completions" -l bucket -d 'The bucket [env: CONFHOT_BUCKET] [default: configs]' -r
complete -c confhot -n "__fish_confhot_using_subcommand completions" -l timeout -d 'Deadline of a connect and of each request: 5s, 500ms, 1m30s [default: 5s]' -r
complete -c confhot -n "__fish_confhot_using_subcommand completions" -l format -d 'How answers are written' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand completions" -l color -d 'Colours; `auto` means on a terminal and without NO_COLOR' -r -f -a "auto\t''
always\t''
never\t''"
complete -c confhot -n "__fish_confhot_using_subcommand completions" -l log-format -d 'How the log on stderr is written, messages and errors included' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand completions" -l tls-first -d 'Speak TLS before the server greets, as a server with `handshake_first` wants it'
complete -c confhot -n "__fish_confhot_using_subcommand completions" -s q -l quiet -d 'Say errors only'
complete -c confhot -n "__fish_confhot_using_subcommand completions" -s v -l verbose -d 'Say more; twice for all that the libraries log'
complete -c confhot -n "__fish_confhot_using_subcommand completions" -s h -l help -d 'Print help'
complete -c confhot -n "__fish_confhot_using_subcommand man" -l dir -d 'Write confhot.1 and a page for each verb (confhot-get.1, …) into this directory, which is made if missing' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand man" -l server -d 'NATS servers, separated by commas [env: CONFHOT_SERVER, else NATS_URL] [default: nats://127.0.0.1:4222]' -r
complete -c confhot -n "__fish_confhot_using_subcommand man" -l context -d 'A context of the `nats` CLI [env: NATS_CONTEXT] [default: the selected one, where no server is named otherwise]' -r
complete -c confhot -n "__fish_confhot_using_subcommand man" -l creds -d 'File with a user JWT and its seed [env: NATS_CREDS]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand man" -l nkey -d 'File with an nkey seed [env: NATS_NKEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand man" -l user -d 'Who to connect as, by password [env: NATS_USER]' -r
complete -c confhot -n "__fish_confhot_using_subcommand man" -l password-file -d 'File with the password [env: NATS_PASSWORD_FILE; NATS_PASSWORD is the password itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand man" -l token-file -d 'File with a token [env: NATS_TOKEN_FILE; NATS_TOKEN is the token itself]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand man" -l tls-ca -d 'Certificates of a private CA, as PEM [env: NATS_CA]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand man" -l tls-cert -d 'Client certificate, as PEM [env: NATS_CERT]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand man" -l tls-key -d 'Key of the client certificate, as PEM [env: NATS_KEY]' -r -F
complete -c confhot -n "__fish_confhot_using_subcommand man" -l js-domain -d 'JetStream domain, where the bucket is beyond a leaf node [default: that of the context]' -r
complete -c confhot -n "__fish_confhot_using_subcommand man" -l inbox-prefix -d 'What the subjects of answers begin with [default: that of the context, else _INBOX_ and the name of the user]' -r
complete -c confhot -n "__fish_confhot_using_subcommand man" -l bucket -d 'The bucket [env: CONFHOT_BUCKET] [default: configs]' -r
complete -c confhot -n "__fish_confhot_using_subcommand man" -l timeout -d 'Deadline of a connect and of each request: 5s, 500ms, 1m30s [default: 5s]' -r
complete -c confhot -n "__fish_confhot_using_subcommand man" -l format -d 'How answers are written' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand man" -l color -d 'Colours; `auto` means on a terminal and without NO_COLOR' -r -f -a "auto\t''
always\t''
never\t''"
complete -c confhot -n "__fish_confhot_using_subcommand man" -l log-format -d 'How the log on stderr is written, messages and errors included' -r -f -a "text\t''
json\t''"
complete -c confhot -n "__fish_confhot_using_subcommand man" -l tls-first -d 'Speak TLS before the server greets, as a server with `handshake_first` wants it'
complete -c confhot -n "__fish_confhot_using_subcommand man" -s q -l quiet -d 'Say errors only'
complete -c confhot -n "__fish_confhot_using_subcommand man" -s v -l verbose -d 'Say more; twice for all that the libraries log'
complete -c confhot -n "__fish_confhot_using_subcommand man" -s h -l help -d 'Print help'
