"""The tools that Llama 3.1 knows by name, over services that need a key. Nothing here loads until it is used."""
