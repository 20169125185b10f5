"""An agent in the place of a VM: speaks the agent protocol and runs processes on this host.

A tool for trying and testing: it isolates nothing.  It is as strict as real
agents are and ends itself where those power their VM off.

    main         command line, start and end
    life         the greenlets, and where their errors arrive
    listener     a listening socket and its file
    port         a channel as the guest sees it
    agent        what each command does
    spec         what the JSON of a command says
    container    the processes that live and end together
    process      a running process: its start, its streams and its end
    streams      pipes or a terminal
    stdin_queue  stdin that a process has not read yet
    descendants  finding and ending whatever was started
"""
