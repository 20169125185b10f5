# Completion for bash: commands, flags and values of cc-proxy.
#
# Commands and flags are read from the help of the program that is installed. What a
# value may be is told by what stands for it there, as PATH does in --socket-path PATH.

# Set flags to those in a help text, and values to what stands for the value of each.
_cc_proxy_read_flags() {
    local line word seen
    flags=() values=()
    while IFS= read -r line; do
        [[ $line =~ ^\ {2,4}(-[^ ].*) ]] || continue
        # Two blanks end the column of the flags.
        line=${BASH_REMATCH[1]%%  *} seen=()
        for word in ${line//[,=]/ }; do
            if [[ $word == -* ]]; then
                flags+=("$word") seen+=("$word")
            else
                for seen in "${seen[@]}"; do values[$seen]=$word; done
            fi
        done
    done <<<"$1"
}

# Print, one a line, what may stand in the place of a word that a help text has in capitals.
_cc_proxy_words() {
    case $1 in
        LEVEL) printf '%s\n' debug info warn error fatal panic ;;
        MODE) printf '%s\n' auto off initial ;;
        FORMAT) printf '%s\n' text logfmt json ;;
        NAME)
            printf '%s\n' version startpod destroypod execcmd winsize ping writefile readfile \
                newcontainer killcontainer onlinecpumem setupinterface setuproute \
                removecontainer pscontainer
            ;;
        VM)
            "$program" status --json 2>/dev/null </dev/null |
                grep -o '"id": *"[^"]*"' | cut -d '"' -f 4
            ;;
        COMMANDS) sed -n 's/^  cc-proxy \([a-z][a-z-]*\).*/\1/p' <<<"$help" | sort -u ;;
    esac
}

# Offer those of the lines on the standard input that begin as what is typed does.
_cc_proxy_offer() {
    local line
    # Not with compgen -W, which would run what a VM's name may have in it.
    while IFS= read -r line; do
        [[ $line != "$current"* ]] || COMPREPLY+=("$(printf %q "$line")")
    done
}

# Offer files as compgen finds them; bash quotes them.
_cc_proxy_offer_files() {
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen "$1" -- "$current")
}

# Offer what may stand in the place of such a word.
_cc_proxy_complete() {
    case $1 in
        PATH | FILE | *_SOCKET) _cc_proxy_offer_files -f ;;
        DIR) _cc_proxy_offer_files -d ;;
        *) _cc_proxy_offer < <(_cc_proxy_words "$1") ;;
    esac
}

# Print what stands in the usage for the word that is being typed, which is no flag.
_cc_proxy_positional() {
    local line word index place=0
    for ((index = 2; index < COMP_CWORD; index++)); do
        case ${COMP_WORDS[index]} in
            --) continue ;;
            -*) ((index > dashes)) || {
                [[ -z ${values[${COMP_WORDS[index]}]-} ]] || ((++index))
                continue
            } ;;
        esac
        ((++place))
    done
    line=$(sed -n "s/^  [^ ]* $command \\(.*\\)/\\1/p" <<<"$help" | head -n 1)
    # Without the values of flags.
    line=$(sed 's/-[a-z-]*[ =][A-Z_]*//g' <<<"$line")
    for word in ${line//[]\[()]/ }; do
        [[ $word == [A-Z]* ]] && ((place-- == 0)) && echo "${word%...}" && return
    done
}

_cc_proxy() {
    local program=$1 current=${COMP_WORDS[COMP_CWORD]} assigned=${COMP_WORDS[COMP_CWORD - 1]}
    local command="" help flag flags dashes place
    local -A values
    COMPREPLY=()

    if ((COMP_CWORD > 1)) && [[ ${COMP_WORDS[1]} != -* ]]; then
        command=${COMP_WORDS[1]}
    fi
    help=$("$program" ${command:+"$command"} --help 2>/dev/null </dev/null)
    _cc_proxy_read_flags "$help"

    # Behind -- there are no flags, and what is no VM is a command of the user's own.
    for ((dashes = 2; dashes < COMP_CWORD; dashes++)); do
        [[ ${COMP_WORDS[dashes]} == -- ]] || continue
        place=$(_cc_proxy_positional)
        case $place in
            "") compopt -o default 2>/dev/null ;;
            COMMAND) mapfile -t COMPREPLY < <(compgen -c -- "$current" | sort -u) ;;
            *) _cc_proxy_complete "$place" ;;
        esac
        return
    done

    # Bash takes the = between a flag and its value for a word.
    if [[ $current == = ]]; then
        current=""
    elif [[ $assigned == = ]]; then
        assigned=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    if [[ -z $command ]]; then
        # The daemon takes one dash for two.
        for flag in "${!values[@]}"; do values[${flag#-}]=${values[$flag]}; done
        [[ $current == --* ]] || flags=("${flags[@]/#--/-}")
    fi

    if [[ -n ${values[$assigned]-} ]]; then
        _cc_proxy_complete "${values[$assigned]}"
    elif [[ $current == -* ]]; then
        _cc_proxy_offer < <(printf '%s\n' "${flags[@]}")
    elif ((COMP_CWORD == 1)); then
        _cc_proxy_complete COMMANDS
    elif [[ -n $command ]]; then
        _cc_proxy_complete "$(_cc_proxy_positional)"
    fi
}

complete -F _cc_proxy cc-proxy
