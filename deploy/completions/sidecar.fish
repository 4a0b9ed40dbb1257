# Completion for fish: in ~/.config/fish/completions or /usr/share/fish/vendor_completions.d.
# The program itself knows its commands, options and values.
function __sidecar_complete
    for completion in (env COMP_WORDS=(commandline -cp) COMP_CWORD=(commandline -ct) _SIDECAR_COMPLETE=fish_complete sidecar 2>/dev/null)
        set -l parts (string split -m 1 , -- $completion)
        switch $parts[1]
            case file
                __fish_complete_path $parts[2]
            case dir
                __fish_complete_directories $parts[2]
            case plain
                echo $parts[2]
        end
    end
end
complete --no-files --command sidecar --arguments "(__sidecar_complete)"
