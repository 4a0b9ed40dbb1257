# Completion for bash, as /usr/share/bash-completion/completions/sidecar, or sourced in ~/.bashrc.
# The program itself knows its commands, options and values.
_sidecar() {
    local type value
    COMPREPLY=()
    while IFS=, read -r type value; do
        case $type in
            file) compopt -o default ;;
            dir) compopt -o dirnames ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done < <(COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD _SIDECAR_COMPLETE=bash_complete "$1" 2>/dev/null)
}
complete -o nosort -F _sidecar sidecar
