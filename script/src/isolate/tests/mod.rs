mod bodies;
mod calls;
mod harness;
mod hostile;
mod loading;
